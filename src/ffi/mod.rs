//! Unsafe code.
pub mod av;
