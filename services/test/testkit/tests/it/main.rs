//! The rules of the repository that no compiler checks.

mod channels;
mod docs;
mod kafka;
mod layers;
