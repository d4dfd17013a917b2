//! Sinks.
pub mod encode;
pub mod images;
pub mod record;
pub mod table;
pub mod tensors;
pub mod webdataset;
