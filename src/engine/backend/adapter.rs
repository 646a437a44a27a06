//! Graphics adapters as plain data: which one is meant, and what is there. Known with and without the feature `gpu`. Absent:
//! finding them (see `crate::adapter`).

use serde::Serialize;

use super::DeviceInfo;

/// Which adapter to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuSelector {
    /// The best hardware adapter; a software adapter is never picked by itself.
    Auto,
    /// The best adapter, software included when there is no hardware (asked for by the user's `gpu`).
    Any,
    /// The adapter with this place in [`crate::adapter::list_adapters`].
    Index(usize),
}

/// One adapter for `bitworth devices`: what it is, and the limits and features that decide how models run on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AdapterDescription {
    /// Its place in the list, as `gpu:n` names it.
    pub index: usize,
    /// Name, interface, kind and driver.
    #[serde(flatten)]
    pub info: DeviceInfo,
    /// Bytes of device-local memory; absent where the interface does not tell (Metal, DX12).
    pub memory_bytes: Option<u64>,
    /// The largest buffer, in bytes.
    pub max_buffer_bytes: u64,
    /// The largest piece of a buffer that a kernel can see, in bytes; weights beyond it are split by rows.
    pub max_binding_bytes: u64,
    /// Workgroup (shared) memory, in bytes.
    pub workgroup_memory_bytes: u32,
    /// Invocations in one workgroup.
    pub workgroup_invocations: u32,
    /// Smallest and largest subgroup (warp, wave).
    pub subgroup_sizes: (u32, u32),
    /// f16 arithmetic in shaders. Reported only: everything accumulates in f32.
    pub shader_f16: bool,
    /// Subgroup operations. Reported only: no kernel needs them.
    pub subgroup: bool,
    /// GPU timestamps. Reported only: times are taken around a wait for the device.
    pub timestamp_query: bool,
    /// Whether [`GpuSelector::Auto`] would open this one.
    pub auto: bool,
}
