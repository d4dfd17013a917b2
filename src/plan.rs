//! The frozen plan.
