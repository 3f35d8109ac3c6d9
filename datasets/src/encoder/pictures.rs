//! Encoding rows with pictures.

use super::Encoder;
use crate::error::DataError;
use crate::example::Notes;
use crate::label::RowLabel;
use crate::location::Location;
use crate::pictured::{Caption, Pictured};
use crate::record::Image;

impl Encoder {
    /// Decodes the picture of a row once, so that a damaged one is known before training, and tokenises its caption.
    pub(super) fn pictured(
        &self,
        image: &Image,
        text: Option<&str>,
        label: Option<RowLabel>,
        location: &Location,
    ) -> Result<(Pictured, Notes), DataError> {
        let Some(pictures) = &self.pictures else {
            return Err(DataError::row(
                location,
                "a row that the model reads",
                "a picture, and the folder of the model does not say how it reads pictures: that takes preprocessor_config.json, and a tokenizer for captions",
            ));
        };
        let picture = pictures.decode(&image.medium, &image.bytes, location)?;
        let mut notes = Notes::default();
        let caption = match text.filter(|_| !pictures.captions.is_empty()) {
            None => None,
            Some(text) => {
                notes.empty.0 = usize::from(text.trim().is_empty());
                notes.lossy = text.contains('\u{fffd}');
                notes.control = self.spells_control(text);
                let read: Vec<_> =
                    pictures.captions.iter().map(|reader| reader.read(text)).collect::<Result<_, _>>()?;
                notes.cut_from = read.iter().filter_map(|(_, cut)| *cut).max();
                Some(Caption { text: text.to_string(), ids: read.into_iter().map(|(ids, _)| ids).collect() })
            }
        };
        let (size, pixels) = ((picture.height, picture.width), Pictured::hash(&picture));
        Ok((Pictured { image: image.medium.clone(), size, pixels, caption, label }, notes))
    }
}
