//! Finding a graphics adapter: what is there, which one is meant, what it offers. Does not open it (see `device.rs`).

use bitworth_quant::message::Message;

use crate::backend::{AdapterDescription, DEVICE, DeviceError, DeviceInfo, DeviceKind, GpuSelector, Result};

/// See [`crate::adapter::list_adapters`].
pub(crate) fn list() -> Vec<AdapterDescription> {
    let adapters = adapters();
    let auto = pick(&adapters, GpuSelector::Auto).ok();
    adapters.iter().enumerate().map(|(index, adapter)| describe(index, adapter, auto == Some(index))).collect()
}

/// The adapter that `selector` means.
pub(super) fn choose(selector: GpuSelector) -> Result<wgpu::Adapter> {
    let mut adapters = adapters();
    let index = pick(&adapters, selector)?;
    Ok(adapters.swap_remove(index))
}

/// What records say about an adapter.
pub(super) fn device_info(adapter: &wgpu::Adapter) -> DeviceInfo {
    let info = adapter.get_info();
    DeviceInfo {
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        api: match info.backend {
            wgpu::Backend::Vulkan => "vulkan",
            wgpu::Backend::Metal => "metal",
            wgpu::Backend::Dx12 => "dx12",
            _ => "other",
        }
        .to_owned(),
        kind: kind(info.device_type),
        name: info.name,
    }
}

fn adapters() -> Vec<wgpu::Adapter> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        // One native interface per platform would do, but Windows machines differ in which of the two works better.
        backends: wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12,
        // The debugging layers that development builds would switch on slow every call down.
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    adapters.sort_by_key(|adapter| rank(kind(adapter.get_info().device_type)));
    adapters
}

fn pick(adapters: &[wgpu::Adapter], selector: GpuSelector) -> Result<usize> {
    let is_software = |adapter: &wgpu::Adapter| kind(adapter.get_info().device_type) == DeviceKind::SoftwareGpu;
    match selector {
        GpuSelector::Auto => adapters.iter().position(|adapter| !is_software(adapter)).ok_or_else(|| {
            let none = Message::from("no hardware GPU found");
            none_found(match adapters {
                [] => none,
                _ => none.then(" (a software adapter exists; ask for it with ").then(DEVICE.with("gpu")).then(")"),
            })
        }),
        GpuSelector::Any if adapters.is_empty() => Err(none_found("no GPU adapter found")),
        GpuSelector::Any => Ok(0),
        GpuSelector::Index(index) if index < adapters.len() => Ok(index),
        GpuSelector::Index(index) => {
            let names: Vec<_> = adapters.iter().enumerate().map(|(i, a)| format!("gpu:{i} {}", a.get_info().name)).collect();
            Err(none_found(format!("there is no adapter {index}; found: [{}]", names.join(", "))))
        }
    }
}

fn none_found(what: impl Into<Message>) -> DeviceError {
    let remedy = "; install the vendor's Vulkan driver (Linux), a current graphics driver (Windows), or mesa-vulkan-drivers for \
         a software adapter; ";
    let what = what.into().then(remedy).then(DEVICE.with("cpu")).then(" always works");
    DeviceError { device: "gpu".to_owned(), what }
}

fn describe(index: usize, adapter: &wgpu::Adapter, auto: bool) -> AdapterDescription {
    let (limits, features, info) = (adapter.limits(), adapter.features(), adapter.get_info());
    AdapterDescription {
        index,
        info: device_info(adapter),
        memory_bytes: memory_bytes(adapter),
        max_buffer_bytes: limits.max_buffer_size,
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        workgroup_memory_bytes: limits.max_compute_workgroup_storage_size,
        workgroup_invocations: limits.max_compute_invocations_per_workgroup,
        subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
        shader_f16: features.contains(wgpu::Features::SHADER_F16),
        subgroup: features.contains(wgpu::Features::SUBGROUP),
        timestamp_query: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        auto,
    }
}

fn kind(device_type: wgpu::DeviceType) -> DeviceKind {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceKind::DiscreteGpu,
        wgpu::DeviceType::IntegratedGpu => DeviceKind::IntegratedGpu,
        wgpu::DeviceType::Cpu => DeviceKind::SoftwareGpu,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => DeviceKind::OtherGpu,
    }
}

fn rank(kind: DeviceKind) -> u8 {
    match kind {
        DeviceKind::DiscreteGpu => 0,
        DeviceKind::OtherGpu => 1,
        DeviceKind::IntegratedGpu => 2,
        DeviceKind::SoftwareGpu | DeviceKind::Cpu => 3,
    }
}

/// The largest device-local heap, which wgpu itself does not report.
#[cfg(any(windows, all(unix, not(target_vendor = "apple"))))]
pub(super) fn memory_bytes(adapter: &wgpu::Adapter) -> Option<u64> {
    const DEVICE_LOCAL: u32 = 1; // VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
    // SAFETY: the handle is only asked for properties while the guard lives, and nothing is destroyed through it.
    #[allow(unsafe_code)]
    let heaps = unsafe {
        let vulkan = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = vulkan.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
    };
    let local = heaps.memory_heaps.iter().take(heaps.memory_heap_count as usize).filter(|h| h.flags.as_raw() & DEVICE_LOCAL != 0);
    local.map(|heap| heap.size).max()
}

#[cfg(not(any(windows, all(unix, not(target_vendor = "apple")))))]
pub(super) fn memory_bytes(_: &wgpu::Adapter) -> Option<u64> {
    None
}
