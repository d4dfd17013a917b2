//! The record: everything that is known of one sample, one row of the table and one JSON beside the data.
