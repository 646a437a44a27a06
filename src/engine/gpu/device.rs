//! An opened device: memory in, memory out, dispatches in between. Which dispatches an operation takes is said in the op files.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use bytemuck::Pod;

use super::adapter;
use super::errors::Errors;
use super::pipeline::{Kernel, Pipelines};
use super::recorder::{PARAMS_BYTES, Recorder, Step};
use super::tuning::Tuning;
use crate::backend::{DeviceError, DeviceInfo, Result};

/// Bytes handed to the driver in one write, and taken back in one read: what bounds its hidden copies.
const TRANSFER_BYTES: usize = 16 << 20;
/// Workgroups in one dimension that every device offers.
const MAX_GROUPS: u32 = 65535;

/// A graphics device running our kernels through Vulkan, Metal or DX12.
pub struct Gpu {
    pub(super) device: wgpu::Device,
    queue: wgpu::Queue,
    info: DeviceInfo,
    pub(super) errors: Errors,
    pipelines: Arc<Pipelines>,
    recorder: Mutex<Recorder>,
    pub(super) tuning: Tuning,
    /// Bytes that a kernel can see of one buffer.
    pub(super) max_binding_bytes: usize,
    memory_bytes: Option<u64>,
}

/// How many workgroups an operation starts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Groups {
    /// So many, spread over two dimensions where one is too short; the kernel numbers them by
    /// `group.y * groups.x + group.x` and drops those past the end.
    Linear(usize),
    /// A grid.
    Grid(usize, usize),
}

impl Gpu {
    /// Opens `adapter` with all of `limits` and none of the optional features.
    pub(super) fn with_limits(adapter: &wgpu::Adapter, limits: wgpu::Limits) -> Result<Self> {
        let info = adapter::device_info(adapter);
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("bitworth"),
            required_features: wgpu::Features::empty(),
            required_limits: limits.clone(),
            ..Default::default()
        }))
        .map_err(|error| DeviceError { device: info.name.clone(), what: format!("cannot open the device: {error}").into() })?;
        let errors = Errors::listen(&device, &info.name);
        let tuning = Tuning::of(info.kind);
        let recorder = Recorder::new(&device, tuning.work_limit);
        errors.check()?;
        // A binding's length must be a multiple of 4; 16 keeps rounded allocations inside.
        let max_binding_bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(u64::from(u32::MAX));
        let max_binding_bytes = max_binding_bytes as usize & !15;
        let (recorder, pipelines) = (Mutex::new(recorder), Arc::default());
        let memory_bytes = adapter::memory_bytes(adapter);
        Ok(Self { device, queue, info, errors, pipelines, recorder, tuning, max_binding_bytes, memory_bytes })
    }

    /// From now on work is cut for a device of this rate.
    pub(super) fn set_rate(&mut self, multiply_adds_per_second: f64) {
        self.tuning = self.tuning.at_rate(multiply_adds_per_second);
        self.recorder = Mutex::new(Recorder::new(&self.device, self.tuning.work_limit));
    }

    /// The device as records name it.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Bytes of the largest device-local memory; `None` where the interface does not tell.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.memory_bytes
    }

    /// The same device, tuned differently. Pipelines made through either serve both.
    #[cfg(test)]
    pub(super) fn tuned(&self, change: impl FnOnce(&mut Tuning)) -> Self {
        let mut tuning = self.tuning;
        change(&mut tuning);
        Self {
            device: self.device.clone(),
            queue: self.queue.clone(),
            info: self.info.clone(),
            errors: self.errors.clone(),
            pipelines: self.pipelines.clone(),
            recorder: Mutex::new(Recorder::new(&self.device, tuning.work_limit)),
            tuning,
            ..*self
        }
    }

    /// Compiles a kernel ahead of its first use.
    #[cfg(test)]
    pub(super) fn compile(&self, kernel: &Kernel) -> Result<()> {
        self.pipelines.get(&self.device, &self.errors, kernel).map(drop)
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A storage buffer of at least `bytes` bytes (a multiple of 16, never empty).
    pub(super) fn storage(&self, bytes: usize, what: &str) -> Result<wgpu::Buffer> {
        self.errors.check()?;
        if bytes > self.max_binding_bytes {
            let limit = self.max_binding_bytes;
            let what = format!("{what} needs {bytes} bytes, the device's limit is {limit}: use a smaller batch");
            return Err(self.errors.error(what));
        }
        let size = bytes.max(16).next_multiple_of(16) as u64;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let desc = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let making = format!("allocating {bytes} bytes for {what}");
        self.errors.scoped(&self.device, &making, || self.device.create_buffer(&desc))
    }

    /// Writes `bytes` at `at` (a multiple of 4) of a buffer that no recorded step uses yet, the last word filled up with zeros.
    pub(super) fn write(&self, buffer: &wgpu::Buffer, at: usize, bytes: &[u8]) -> Result<()> {
        let whole = bytes.len() & !3;
        for (piece, index) in bytes[..whole].chunks(TRANSFER_BYTES).zip(0..) {
            self.write_piece(buffer, at + index * TRANSFER_BYTES, piece)?;
        }
        if whole < bytes.len() {
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.write_piece(buffer, at + whole, &last)?;
        }
        Ok(())
    }

    fn write_piece(&self, buffer: &wgpu::Buffer, at: usize, piece: &[u8]) -> Result<()> {
        let mut recorder = self.recorder();
        self.make_room(&mut recorder)?;
        self.queue.write_buffer(buffer, at as u64, piece);
        recorder.note_upload(piece.len());
        Ok(())
    }

    /// Records one dispatch of about `work` multiply-adds. `params` fill the kernel's uniform, `bindings` its storage buffers,
    /// read or written as the kernel's `writes` says.
    pub(super) fn dispatch<P: Pod>(
        &self,
        kernel: &Kernel,
        params: &P,
        bindings: &[&wgpu::Buffer],
        groups: Groups,
        work: f64,
    ) -> Result<()> {
        const { assert!(size_of::<P>() <= PARAMS_BYTES, "kernel parameters outgrew their slot") };
        assert_eq!(bindings.len(), kernel.writes.len(), "{}", kernel.name);
        let groups = self.group_counts(kernel.name, groups)?;
        if groups.contains(&0) {
            return Ok(());
        }
        let pipeline = self.pipelines.get(&self.device, &self.errors, kernel)?;
        let mut recorder = self.recorder();
        self.make_room(&mut recorder)?;
        let bind_group = {
            let storage = bindings.iter().map(|buffer| buffer.as_entire_binding());
            let resources = std::iter::once(recorder.params_binding()).chain(storage).zip(0..);
            let entries: Vec<_> = resources.map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource }).collect();
            let desc = wgpu::BindGroupDescriptor { label: Some(kernel.name), layout: &pipeline.layout, entries: &entries };
            self.device.create_bind_group(&desc)
        };
        let params_at = recorder.push_params(bytemuck::bytes_of(params));
        recorder.push(Step::Dispatch { pipeline, bindings: bind_group, params_at, groups }, work);
        Ok(())
    }

    fn group_counts(&self, kernel: &str, groups: Groups) -> Result<[u32; 3]> {
        let (x, y) = match groups {
            Groups::Linear(count) => (count.min(MAX_GROUPS as usize), count.div_ceil(MAX_GROUPS as usize)),
            Groups::Grid(x, y) => (x, y),
        };
        if x.max(y) > MAX_GROUPS as usize {
            let what = format!("{kernel}: {x} x {y} workgroups are more than a device takes: use a smaller batch");
            return Err(self.errors.error(what));
        }
        Ok([x as u32, y as u32, 1])
    }

    /// Records a copy of `bytes` bytes (a multiple of 4) between two different buffers.
    pub(super) fn record_copy(&self, src: &wgpu::Buffer, src_at: u64, dst: &wgpu::Buffer, dst_at: u64, bytes: u64) -> Result<()> {
        let mut recorder = self.recorder();
        self.make_room(&mut recorder)?;
        recorder.push(Step::Copy { src: src.clone(), src_at, dst: dst.clone(), dst_at, bytes }, bytes as f64);
        Ok(())
    }

    fn make_room(&self, recorder: &mut Recorder) -> Result<()> {
        if recorder.is_full() { self.submit(recorder) } else { Ok(()) }
    }

    fn submit(&self, recorder: &mut Recorder) -> Result<()> {
        self.errors.check()?;
        let oldest = recorder.submit(&self.device, &self.queue);
        oldest.map_or(Ok(()), |index| self.wait(Some(index)))
    }

    /// Submits what is recorded and waits until the device has done everything.
    pub(super) fn finish(&self) -> Result<()> {
        let mut recorder = self.recorder();
        self.submit(&mut recorder)?;
        self.wait(None)?;
        recorder.all_done();
        self.errors.check()
    }

    /// Waits for a submission, or for all of them.
    fn wait(&self, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index, timeout: None };
        // wgpu panics here when the device is lost or out of memory, which on a shared machine is nobody's bug.
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(poll))) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.errors.error(format!("waiting for the device: {error}"))),
            Err(_) => {
                self.errors.note("the device was lost while it computed: a driver reset, a time limit, or memory ran out");
                self.errors.check()
            }
        }
    }

    /// The numbers `range` of `buffer`, after everything recorded before.
    pub(super) fn read_back<T: Pod>(&self, buffer: &wgpu::Buffer, range: Range<usize>) -> Result<Vec<T>> {
        let mut numbers = Vec::with_capacity(range.len());
        let step = TRANSFER_BYTES / size_of::<T>();
        for start in range.clone().step_by(step) {
            let end = range.end.min(start + step);
            self.read_piece(buffer, start, end - start, &mut numbers)?;
        }
        self.finish()?;
        Ok(numbers)
    }

    fn read_piece<T: Pod>(&self, buffer: &wgpu::Buffer, start: usize, count: usize, into: &mut Vec<T>) -> Result<()> {
        let bytes = (count * size_of::<T>()) as u64;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let desc = wgpu::BufferDescriptor { label: Some("read back"), size: bytes, usage, mapped_at_creation: false };
        let landing = self.errors.scoped(&self.device, "allocating a read-back buffer", || self.device.create_buffer(&desc))?;
        self.record_copy(buffer, (start * size_of::<T>()) as u64, &landing, 0, bytes)?;
        let mut recorder = self.recorder();
        self.submit(&mut recorder)?;
        let (done, mapped) = mpsc::channel();
        landing.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = done.send(result);
        });
        self.wait(None)?;
        recorder.all_done();
        drop(recorder);
        self.errors.check()?;
        let failed = |error: &dyn std::fmt::Display| self.errors.error(format!("reading {bytes} bytes back: {error}"));
        mapped.recv().map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let view = landing.get_mapped_range(..).map_err(|error| failed(&error))?;
        into.extend(bytemuck::pod_collect_to_vec::<u8, T>(&view));
        Ok(())
    }

    /// Fails unless `have >= need`: the guard that lets kernels run without bounds checks.
    pub(super) fn require(&self, op: &str, what: &str, have: usize, need: usize) -> Result<()> {
        if have >= need {
            return Ok(());
        }
        Err(self.errors.error(format!("{op}: {what} holds {have} numbers where {need} are needed (a defect of the caller)")))
    }

    /// Fails unless every one of `values` is below `bound`.
    pub(super) fn require_below(&self, op: &str, what: &str, values: &[u32], bound: usize) -> Result<()> {
        match values.iter().find(|&&value| value as usize >= bound) {
            None => Ok(()),
            Some(value) => Err(self.errors.error(format!("{op}: {what} {value} is out of range, there are {bound}"))),
        }
    }
}
