//! Classifiers: [`Model::become_classifier`] puts a score for each class in the place of the output head.

use super::Model;
use crate::error::ModelError;
use crate::families::ClassNames;
use crate::parameters::{Listing, Random, Role};

impl Model {
    /// Puts a frozen score for each of `classes` classes in the place of the output head. The scores are drawn from a
    /// normal distribution with the deviation of new matrices (`initializer_range`), by `seed`; a bias is zero. A classifier
    /// of as many classes is not changed.
    ///
    /// # Errors
    /// A model that cannot be a classifier; a sequence classifier of another number of classes.
    pub fn become_classifier(&mut self, classes: usize, seed: u64) -> Result<(), ModelError> {
        match (self.classes(), self.family.classifier()) {
            (Some(found), _) if found == classes => Ok(()),
            (Some(found), _) if !self.network.config().has_renewable_head() => Err(ModelError::Classes {
                problem: format!("its scores are of {found} classes, and {classes} are asked for"),
            }),
            (_, None) => Err(ModelError::Classes {
                problem: format!("a model of type {} does not classify", self.family.name()),
            }),
            // The features of images are the same whatever classes a published head tells apart.
            (Some(_) | None, Some(class)) => self.renew_head(class, classes, seed),
        }
    }

    /// As [`Self::become_classifier`], with new scores even where there are as many.
    ///
    /// # Errors
    /// A model that cannot be a classifier.
    pub fn begin_classes(&mut self, classes: usize, seed: u64) -> Result<(), ModelError> {
        match self.family.classifier() {
            Some(class) => self.renew_head(class, classes, seed),
            None => self.become_classifier(classes, seed),
        }
    }

    fn renew_head(&mut self, class: &str, classes: usize, seed: u64) -> Result<(), ModelError> {
        let deviation = self.network.config().initializer_range();
        let mut random = Random { seed, deviation, device: self.device() };
        let mut listing = Listing::of(&mut random);
        self.network.become_classifier(classes, &mut listing);
        let drawn = std::mem::take(&mut listing.parameters);
        let config = self.network.config();
        self.parameters.retain(|info| !config.is_of_head(&info.path));
        self.parameters.retain(|info| drawn.iter().all(|new| new.path != info.path));
        self.parameters.extend(drawn);
        self.component.rename(self.family.rules(&config)?);
        self.component.tie = None;
        self.component.config.set("architectures", vec![class]);
        let usual = ClassNames::of(&self.component.config.without("id2label"), classes);
        self.name_classes(&ClassNames { problem_type: None, ..usual });
        Ok(())
    }

    /// Number of classes of a classifier.
    pub fn classes(&self) -> Option<usize> {
        self.network.config().classes()
    }

    /// The names of its classes and its problem, as its `config.json` says them; absent where it is no classifier.
    pub fn class_names(&self) -> Option<ClassNames> {
        Some(ClassNames::of(&self.component.config, self.classes()?))
    }

    /// Names its classes; a model of another kind is not changed.
    pub fn name_classes(&mut self, names: &ClassNames) {
        if self.classes().is_some() {
            names.write(&mut self.component.config);
        }
    }

    /// The id with which texts are padded, which a classifier does not read.
    pub fn padding(&self) -> Option<usize> {
        self.network.config().padding()
    }

    /// Sets that id in a classifier that has none, and in its `config.json`. Which token has a frozen row in the token table
    /// (`nn.Embedding(padding_idx)`) does not change: it was decided when the model was read.
    pub fn pad_with(&mut self, id: usize) {
        if self.classes().is_some() && self.padding().is_none() {
            self.network.set_padding(id);
            self.component.config.set("pad_token_id", id);
        }
    }

    /// The table of tokens or positions: new scores are stored in its dtype.
    pub(super) fn table(&self) -> Option<&str> {
        let table = |role: Role| self.parameters.iter().find(|info| info.role == role);
        table(Role::TokenTable).or_else(|| table(Role::Table)).map(|info| info.path.as_str())
    }
}
