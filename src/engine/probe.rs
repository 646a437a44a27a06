//! Work of known size, by which a device's memory and arithmetic are measured. Each backend has it in its own room; what it takes
//! is the caller's to time.

use super::backend::Result;

/// Plain work on a device, without a model.
pub trait Probe {
    /// Bytes that one [`Probe::read`] reads, and that one [`Probe::copy`] reads and writes together.
    fn bytes(&self) -> usize;
    /// Reads all of the memory once and adds it up.
    ///
    /// # Errors
    /// A device that fails.
    fn read(&mut self) -> Result<()>;
    /// Copies one half of the memory to the other.
    ///
    /// # Errors
    /// A device that fails.
    fn copy(&mut self) -> Result<()>;
    /// Does about `flops` operations in f32, half of them multiplications and half additions, in fused pairs on numbers in
    /// registers, on everything the device has; returns how many they were.
    ///
    /// # Errors
    /// A device that fails.
    fn multiply(&mut self, flops: f64) -> Result<f64>;
    /// Waits until all is done.
    ///
    /// # Errors
    /// A device that fails.
    fn synchronize(&self) -> Result<()>;
}
