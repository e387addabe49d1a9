//! Functions: libraries of code that FCALL runs by name.
//!
//! [`library`] is what is known of them, shared by all threads; [`metadata`] their first line;
//! [`register`] what their code calls while it is loaded; [`vm`] the Lua state that they live in.
//! Their sources are in every snapshot and in the log, so that they are as durable as data.

pub mod library;
pub mod metadata;
pub mod register;
pub mod vm;
