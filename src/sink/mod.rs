//! Sinks.
pub mod record;
pub mod encode;
pub mod webdataset;
pub mod images;
pub mod tensors;
pub mod table;
