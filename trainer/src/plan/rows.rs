//! The rows of a recipe as its objective reads them: [`rows_of`].

use firebrand_datasets::{DataConfig, Format, RowKind};

use crate::recipe::{ObjectiveRecipe, Recipe};

/// The `[data]` section as rows are read by it: where labels of texts are learned, `auto` is `labelled`.
pub fn rows_of(recipe: &Recipe) -> DataConfig {
    let mut data = recipe.data.clone();
    if let Some(ObjectiveRecipe::Classify(classify)) = &recipe.objective
        && classify.rows == RowKind::Tokens
    {
        let sources = data.train.iter_mut().chain(&mut data.eval);
        sources.filter(|source| source.format == Format::Auto).for_each(|source| source.format = Format::Labelled);
    }
    data
}
