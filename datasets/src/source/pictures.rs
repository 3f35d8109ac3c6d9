//! Folders of pictures as sources: [`choose`] finds the pictures of a split and says what they have beside them.
//!
//! The layouts are those of Hugging Face's image folders and of the training scripts of diffusers and kohya: `x.png` beside
//! `x.txt`, which is its caption; or a folder for each class. Folders with a table of their rows (`metadata.jsonl`,
//! `metadata.csv`, Parquet) are read as that table.

use std::path::Path;

use super::layout::{Layout, is_picture};
use super::splits::{self, Choice, Said, listed};
use crate::config::Split;

/// The pictures of `split` among `names`, which are relative to a folder, with the files of their captions, and what they
/// have beside them.
///
/// # Errors
/// A message when there are pictures and none of this split.
pub(super) fn choose(names: &[String], split: Split) -> Result<Option<(Choice, Layout)>, String> {
    let pictures: Vec<&String> = names.iter().filter(|name| is_picture(Path::new(name))).collect();
    if pictures.is_empty() {
        return Ok(None);
    }
    // A split is the name of the outermost folder; the others may be names of classes.
    let of = |name: &str| match name.split_once('/') {
        Some((folder, _)) => splits::said(folder),
        None => Ok(None),
    };
    let said = pictures.iter().map(|name| of(name)).collect::<Result<Vec<_>, _>>()?;
    let wanted: &[Option<Said>] = match split {
        Split::Train => &[Some(Said::Train), None],
        Split::Eval => &[Some(Said::Validation), Some(Said::Test)],
    };
    let chosen = match said.iter().all(Option::is_none) {
        true => None,
        false => *wanted.iter().find(|wanted| said.contains(wanted)).ok_or_else(|| {
            format!(
                "the folder holds {} pictures and none of them lies in a folder of that split: name folders train, validation \
                 or test, or set rows of training aside with data.validation_split",
                pictures.len()
            )
        })?,
    };
    let (taken, others): (Vec<_>, Vec<_>) = pictures.iter().zip(&said).partition(|(_, said)| **said == chosen);
    let texts: Vec<&String> =
        names.iter().filter(|name| Path::new(name).extension().is_some_and(|end| end == "txt")).collect();
    let caption = |name: &str| {
        let beside = Path::new(name).with_extension("txt");
        texts.iter().find(|text| Path::new(text) == beside).map(|text| text.to_string())
    };
    let below = |name: &str| match chosen.is_some() {
        true => name.split_once('/').is_some_and(|(_, rest)| rest.contains('/')),
        false => name.contains('/'),
    };
    let has_captions = taken.iter().any(|(name, _)| caption(name).is_some());
    let layout = match !has_captions && taken.iter().all(|(name, _)| below(name)) {
        true => Layout::Classes,
        false => Layout::Captions,
    };
    let mut files: Vec<String> =
        taken.iter().flat_map(|(name, _)| [Some(name.to_string()), caption(name)]).flatten().collect();
    files.sort();
    files.dedup();
    let others = others.iter().map(|(name, _)| name.to_string()).collect();
    Ok(Some((Choice { taken: files, others, about: vec![] }, layout)))
}

/// What was read of a folder of pictures, as a sentence for users.
pub(super) fn said(choice: &Choice, layout: Layout) -> String {
    let pictures = choice.taken.iter().filter(|name| is_picture(Path::new(name))).count();
    let mut said = match layout {
        Layout::Captions => format!(
            "reads {pictures} pictures, {} of them with a caption beside it in a .txt file",
            choice.taken.len() - pictures
        ),
        Layout::Classes => format!("reads {pictures} pictures; the name of its folder is the class of each"),
    };
    if !choice.others.is_empty() {
        said += &format!("; leaves out {}, which are of another split by their folders", listed(&choice.others));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], split: Split) -> Result<Option<(Vec<String>, Layout)>, String> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Ok(choose(&names, split)?.map(|(choice, layout)| (choice.taken, layout)))
    }

    #[test]
    fn what_lies_beside_pictures_says_what_a_folder_is() {
        let (taken, layout) = chosen(&["b.png", "a.JPG", "a.txt", "notes.txt"], Split::Train).unwrap().unwrap();
        assert_eq!((taken, layout), (vec!["a.JPG".into(), "a.txt".into(), "b.png".into()], Layout::Captions));
        let classes = ["cats/1.png", "dogs/1.png", "dogs/2.webp"];
        let (taken, layout) = chosen(&classes, Split::Train).unwrap().unwrap();
        assert_eq!((taken.len(), layout), (3, Layout::Classes));
        // One folder of pictures is a class only below a split.
        assert_eq!(chosen(&["1.png", "dogs/1.png"], Split::Train).unwrap().unwrap().1, Layout::Captions);
        assert_eq!(chosen(&["rows.jsonl", "notes.txt"], Split::Train), Ok(None));
    }

    #[test]
    fn the_outermost_folder_says_the_split() {
        let names = ["train/cats/1.png", "train/dogs/1.png", "test/cats/2.png", "test/dogs/2.png"];
        let (train, layout) = chosen(&names, Split::Train).unwrap().unwrap();
        assert_eq!((train, layout), (vec!["train/cats/1.png".into(), "train/dogs/1.png".into()], Layout::Classes));
        assert_eq!(chosen(&names, Split::Eval).unwrap().unwrap().0, ["test/cats/2.png", "test/dogs/2.png"]);
        assert_eq!(chosen(&["train/1.png", "train/2.png"], Split::Train).unwrap().unwrap().1, Layout::Captions);
        let none = chosen(&["train/cats/1.png"], Split::Eval).unwrap_err();
        assert!(none.contains("validation_split"), "{none}");
        // Where no folder says a split, all pictures are of the one that is asked for, as with tables.
        assert_eq!(chosen(&["cats/1.png"], Split::Eval).unwrap().unwrap().0, ["cats/1.png"]);
    }
}
