//! desktop_model
