//! tensors.
