//! The calling side of Rantai.
