//! Listing of the inputs.
