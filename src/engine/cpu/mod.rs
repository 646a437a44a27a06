//! The CPU backend: the referee and the fallback.
