//! What a network reads of a row with a picture: [`PictureInputs`].

/// What a network reads of a row with a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureInputs {
    /// The ways in which the caption is read: none, or one for each text encoder.
    pub captions: Vec<CaptionInput>,
    /// The side of the square that pictures are cut to, in pixels, with samples from -1 to 1; absent: a processor's file says
    /// what is done with them.
    pub resolution: Option<usize>,
    /// Whether it is told the size of the picture and the place of what was cut out of it (`time_ids` of Stable Diffusion XL).
    pub told_sizes: bool,
    /// Whether its latents are drawn from what an autoencoder tells of the pixels.
    pub drawn_latents: bool,
}

/// How a text encoder reads a caption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptionInput {
    /// The folder of its tokenizer within that of the model; empty: the same.
    pub folder: &'static str,
    /// The name of the reference's argument.
    pub name: &'static str,
    /// The most tokens, those around the text included.
    pub longest: usize,
    /// Whether shorter texts are filled up to as many.
    pub padded: bool,
}
