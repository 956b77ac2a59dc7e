//! The rules of the repository that no compiler checks.

mod channels;
mod kafka;
mod layers;
