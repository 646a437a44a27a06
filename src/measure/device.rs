//! Which device runs: the user's choice and what it leads to.

use std::fmt;
use std::str::FromStr;

use bitworth_engine::adapter::{GpuSelector, list_adapters};
#[cfg(feature = "gpu")]
use bitworth_engine::backend::DeviceKind;
use bitworth_engine::backend::{Backend, DEVICE, DeviceInfo};
use bitworth_engine::cpu::Cpu;
#[cfg(feature = "gpu")]
use bitworth_engine::gpu::Gpu;
use bitworth_quant::message::Message;

use super::error::{At, Result};

/// Which device is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceSelector {
    /// A hardware GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU backend.
    Cpu,
    /// A GPU, hardware before software; an error if there is none.
    Gpu,
    /// The GPU with this number in `bitworth devices`.
    GpuIndex(usize),
}

impl FromStr for DeviceSelector {
    type Err = bitworth_quant::Error;

    fn from_str(s: &str) -> bitworth_quant::Result<Self> {
        const KNOWN: [&str; 4] = ["auto", "cpu", "gpu", "gpu:N (N as the command devices lists them)"];
        match s {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => s
                .strip_prefix("gpu:")
                .and_then(|n| n.parse().ok())
                .map(Self::GpuIndex)
                .ok_or_else(|| bitworth_quant::Error::unknown("device", s, KNOWN)),
        }
    }
}

impl fmt::Display for DeviceSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::GpuIndex(index) => write!(f, "gpu{index}"),
        }
    }
}

/// An open device.
pub enum Device {
    /// The processor.
    Cpu(Cpu),
    /// A graphics processor, or software that acts as one.
    #[cfg(feature = "gpu")]
    Gpu(Box<Gpu>),
}

impl Device {
    /// Opens what was chosen.
    ///
    /// # Errors
    /// A GPU was asked for and there is none, or it cannot be opened.
    pub fn open(choice: DeviceSelector) -> Result<Self> {
        match choice {
            DeviceSelector::Cpu => Ok(Self::Cpu(Cpu::new())),
            // A hardware GPU that is there but cannot be opened is an error, not a reason to run elsewhere unnoticed.
            DeviceSelector::Auto if list_adapters().iter().any(|adapter| adapter.auto) => {
                let instead = Message::from(" (").then(DEVICE.with("cpu")).then(" runs without it)");
                Self::gpu(GpuSelector::Auto).at(|| DEVICE.with("auto").then(instead))
            }
            DeviceSelector::Auto => Ok(Self::Cpu(Cpu::new())),
            DeviceSelector::Gpu => Self::gpu(GpuSelector::Any).at(|| DEVICE.with("gpu")),
            DeviceSelector::GpuIndex(index) => Self::gpu(GpuSelector::Index(index)).at(|| DEVICE.with(format!("gpu:{index}"))),
        }
    }

    #[cfg(feature = "gpu")]
    fn gpu(selector: GpuSelector) -> Result<Self> {
        Ok(Self::Gpu(Box::new(Gpu::open(selector)?)))
    }

    #[cfg(not(feature = "gpu"))]
    fn gpu(_: GpuSelector) -> Result<Self> {
        Err(super::error::Error::unfit("this program was built without the feature `gpu`"))
    }

    /// The device as records name it.
    pub fn info(&self) -> &DeviceInfo {
        match self {
            Self::Cpu(cpu) => cpu.info(),
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) => gpu.info(),
        }
    }

    /// Bytes of memory that models could take: what the system has available, or the size of a graphics device's own memory;
    /// `None` where neither is told.
    pub fn free_memory(&self) -> Option<u64> {
        match self {
            #[cfg(feature = "gpu")]
            Self::Gpu(gpu) if gpu.info().kind == DeviceKind::DiscreteGpu => gpu.memory_bytes(),
            _ => {
                let mut system = sysinfo::System::new();
                system.refresh_memory();
                Some(system.available_memory()).filter(|&bytes| bytes > 0)
            }
        }
    }
}

/// Runs an expression with the backend of a [`Device`], whichever it is.
// Two macros, because a `cfg` inside of one would ask for the features of the crate that calls it.
#[cfg(feature = "gpu")]
#[macro_export]
macro_rules! on_device {
    ($device:expr, $backend:ident => $body:expr) => {
        match $device {
            $crate::device::Device::Cpu($backend) => $body,
            $crate::device::Device::Gpu(gpu) => {
                let $backend = gpu.as_ref();
                $body
            }
        }
    };
}

/// Runs an expression with the backend of a [`Device`], which is the CPU's.
#[cfg(not(feature = "gpu"))]
#[macro_export]
macro_rules! on_device {
    ($device:expr, $backend:ident => $body:expr) => {
        match $device {
            $crate::device::Device::Cpu($backend) => $body,
        }
    };
}

#[cfg(all(test, not(feature = "gpu")))]
mod tests {
    use super::{Device, DeviceSelector};

    #[test]
    fn a_gpu_that_was_not_built_in_is_refused_and_auto_is_the_processor() {
        for choice in [DeviceSelector::Gpu, DeviceSelector::GpuIndex(0)] {
            let error = format!("{:#}", Device::open(choice).err().unwrap());
            assert!(error.contains("built without the feature `gpu`"), "{error}");
        }
        assert_eq!(Device::open(DeviceSelector::Auto).unwrap().info().api, "cpu");
    }
}
