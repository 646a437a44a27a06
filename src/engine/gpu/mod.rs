//! The GPU backend (wgpu).
