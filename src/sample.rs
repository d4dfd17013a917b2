//! Frame selection.
