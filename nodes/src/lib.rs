//! The serving side of Rantai.
