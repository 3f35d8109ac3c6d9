//! Filled in with the tests of preparations.
