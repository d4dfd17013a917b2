//! webdataset.
