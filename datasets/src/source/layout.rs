//! How folders of pictures are laid out, and what their files are: [`Layout`].

use std::path::Path;

/// Endings of pictures, without the dot.
const ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"];
/// What pictures have beside them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// A text file of the same name, which may be missing.
    #[default]
    Captions,
    /// The name of the folder that they are in, which is their class.
    Classes,
}

/// Whether a file of that name is a picture.
pub(super) fn is_picture(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
}

/// Whether a file is the caption of a picture beside it.
pub(super) fn is_caption(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let beside = |ending: &str| {
        [ending.to_string(), ending.to_ascii_uppercase()].iter().any(|ending| path.with_extension(ending).is_file())
    };
    ending.eq_ignore_ascii_case("txt") && ENDINGS.iter().any(|ending| beside(ending))
}

/// Whether the file is read as a picture or with one for a model that reads pictures.
/// `pictures` is how they are laid out; absent for models that read none.
pub(super) fn reads(path: &Path, pictures: Option<Layout>) -> Option<Layout> {
    pictures.filter(|_| is_picture(path) || is_caption(path))
}
