//! Parts of the typed configuration, each of which knows the options it is made of.

use super::kind::Value;
use super::option_set::OptionSet;
use super::settings::{Directive, Settings};
use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;

/// Reads values and keeps in mind which.
pub(super) struct Reader<'a> {
    settings: &'a Settings,
    read: Cell<OptionSet>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            read: Cell::default(),
        }
    }

    /// `user` and `rename-command` lines: they are read at start only.
    pub(super) fn directives(&self) -> Arc<Vec<Directive>> {
        self.settings.directives.clone()
    }

    /// The value of option number `index`.
    pub(super) fn value(&self, index: usize) -> &'a Value {
        let mut read = self.read.get();
        read.insert(index);
        self.read.set(read);
        self.settings.value(index)
    }
}

/// A part of the configuration. A change of options that it does not read shares it with the
/// configuration before.
#[derive(Debug)]
pub struct Section<T> {
    part: Arc<T>,
    read: OptionSet,
}

impl<T> Clone for Section<T> {
    fn clone(&self) -> Self {
        Self {
            part: self.part.clone(),
            read: self.read,
        }
    }
}

impl<T> Deref for Section<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.part
    }
}

#[cfg(test)]
impl<T: Clone> std::ops::DerefMut for Section<T> {
    fn deref_mut(&mut self) -> &mut T {
        Arc::make_mut(&mut self.part)
    }
}

impl<T> Section<T> {
    /// Whether nothing that this is made of changed from `former` on.
    pub fn is_as_in(&self, former: &Self) -> bool {
        Arc::ptr_eq(&self.part, &former.part)
    }

    pub(super) fn new(settings: &Settings, build: impl FnOnce(&Reader<'_>) -> T) -> Self {
        let reader = Reader::new(settings);
        let part = Arc::new(build(&reader));
        let read = reader.read.get();
        Self { part, read }
    }

    /// This section after a change of the options `changed`.
    pub(super) fn after(
        &self,
        changed: &OptionSet,
        settings: &Settings,
        build: impl FnOnce(&Reader<'_>) -> T,
    ) -> Self {
        match self.read.common(changed).is_empty() {
            true => self.clone(),
            false => Self::new(settings, build),
        }
    }
}
