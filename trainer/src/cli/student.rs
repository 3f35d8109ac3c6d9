//! The arguments of `firebrand student`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, value_parser};

/// `student`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("blocks").required(true).args(["layers", "every"])))]
pub struct StudentArgs {
    /// A model folder or a hub id.
    #[arg(long)]
    pub model: String,
    /// The layers to keep, counted from 0, in the student's order.
    #[arg(long, value_name = "0,2,4", value_parser = layer_numbers)]
    pub layers: Option<LayerNumbers>,
    /// Keep layer 0 and every N-th after it.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    pub every: Option<u32>,
    /// The new model folder.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Numbers of layers, in an order.
#[derive(Debug, Clone)]
pub struct LayerNumbers(pub Vec<usize>);

/// Parses numbers of layers between commas.
fn layer_numbers(text: &str) -> Result<LayerNumbers, String> {
    let numbers = text.split(',').map(|number| {
        let number = number.trim();
        number.parse().map_err(|_| format!("{number:?} is no number of a layer; write numbers such as 0,2,4"))
    });
    numbers.collect::<Result<_, _>>().map(LayerNumbers)
}
