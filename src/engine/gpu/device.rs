//! An opened device: memory in, memory out, dispatches in between. Which dispatches an operation takes is said in the op files.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use bytemuck::Pod;

use super::adapter;
use super::errors::Errors;
use super::pipeline::{Kernel, PARAMS_BYTES, Pipelines};
use super::recorder::{MAX_PENDING_UPLOAD, Recorder, Step};
use super::storage::{self, Pool, Storage};
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
    pool: Arc<Pool>,
    recorder: Mutex<Recorder>,
    /// Bytes handed to the queue that no submission took yet. Not the recorder's, so that uploads do not wait for it.
    pending_upload: AtomicUsize,
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

/// What a device has done, in numbers.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub buffers: u64,
    pub bind_groups: u64,
    pub dispatches: u64,
    pub passes: u64,
    pub submits: u64,
    pub readbacks: u64,
}

#[cfg(test)]
impl Counts {
    /// What was done after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            buffers: self.buffers - before.buffers,
            bind_groups: self.bind_groups - before.bind_groups,
            dispatches: self.dispatches - before.dispatches,
            passes: self.passes - before.passes,
            submits: self.submits - before.submits,
            readbacks: self.readbacks - before.readbacks,
        }
    }
}

/// A recorder with a buffer for parameters, where they do not come with a dispatch.
fn recorder(device: &wgpu::Device, pool: &Arc<Pool>, pipelines: &Pipelines, work_limit: f64) -> Recorder {
    Recorder::new(device, work_limit, |bytes| {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let desc = wgpu::BufferDescriptor { label: Some("params"), size: bytes as u64, usage, mapped_at_creation: false };
        (!pipelines.immediates()).then(|| pool.adopt(device.create_buffer(&desc)))
    })
}

impl Gpu {
    /// Opens `adapter` with all of `limits`, and of the optional features the one for parameters that come with a dispatch, where
    /// `limits` have room for them.
    pub(super) fn with_limits(adapter: &wgpu::Adapter, limits: wgpu::Limits) -> Result<Self> {
        let info = adapter::device_info(adapter);
        let immediates = adapter.features() & wgpu::Features::IMMEDIATES;
        let immediates = if limits.max_immediate_size as usize >= PARAMS_BYTES { immediates } else { wgpu::Features::empty() };
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("bitworth"),
            required_features: immediates,
            required_limits: limits.clone(),
            ..Default::default()
        }))
        .map_err(|error| DeviceError { device: info.name.clone(), what: format!("cannot open the device: {error}").into() })?;
        let errors = Errors::listen(&device, &info.name);
        let tuning = Tuning::of(info.kind);
        let (pool, pipelines) = (Arc::new(Pool::default()), Arc::new(Pipelines::new(!immediates.is_empty())));
        let recorder = recorder(&device, &pool, &pipelines, tuning.work_limit);
        errors.check()?;
        // A binding's length must be a multiple of 4; 16 keeps rounded allocations inside.
        let max_binding_bytes = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(u64::from(u32::MAX));
        let max_binding_bytes = max_binding_bytes as usize & !15;
        let (recorder, pending_upload) = (Mutex::new(recorder), AtomicUsize::new(0));
        let memory_bytes = adapter::memory_bytes(adapter);
        Ok(Self {
            device,
            queue,
            info,
            errors,
            pipelines,
            pool,
            recorder,
            pending_upload,
            tuning,
            max_binding_bytes,
            memory_bytes,
        })
    }

    /// From now on work is cut for a device of this rate.
    pub(super) fn set_rate(&mut self, multiply_adds_per_second: f64) {
        self.tuning = self.tuning.at_rate(multiply_adds_per_second);
        self.recorder = Mutex::new(recorder(&self.device, &self.pool, &self.pipelines, self.tuning.work_limit));
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
            pool: self.pool.clone(),
            recorder: Mutex::new(recorder(&self.device, &self.pool, &self.pipelines, tuning.work_limit)),
            pending_upload: AtomicUsize::new(0),
            tuning,
            ..*self
        }
    }

    /// Compiles a kernel ahead of its first use.
    #[cfg(test)]
    pub(super) fn compile(&self, kernel: &Kernel) -> Result<()> {
        self.pipelines.get(&self.device, &self.errors, kernel).map(drop)
    }

    /// What it has done so far.
    #[cfg(test)]
    pub(super) fn counts(&self) -> Counts {
        let counters = &self.pool.counters;
        let [buffers, bind_groups, dispatches] =
            [&counters.buffers, &counters.bind_groups, &counters.dispatches].map(|n| n.load(Ordering::Relaxed));
        let [passes, submits, readbacks] =
            [&counters.passes, &counters.submits, &counters.readbacks].map(|n| n.load(Ordering::Relaxed));
        Counts { buffers, bind_groups, dispatches, passes, submits, readbacks }
    }

    pub(super) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A storage buffer of at least `bytes` bytes (a multiple of 16, never empty), with whatever stands in it.
    pub(super) fn storage(&self, bytes: usize, what: &str) -> Result<Storage> {
        if bytes > self.max_binding_bytes {
            self.errors.check()?;
            let limit = self.max_binding_bytes;
            let what = format!("{what} needs {bytes} bytes, the device's limit is {limit}: use a smaller batch");
            return Err(self.errors.error(what));
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        self.buffer(bytes, usage, what)
    }

    /// A buffer of at least `bytes` bytes for that use.
    fn buffer(&self, bytes: usize, usage: wgpu::BufferUsages, what: &str) -> Result<Storage> {
        self.errors.check()?;
        let size = Pool::size(bytes as u64, self.max_binding_bytes as u64);
        if let Some(free) = self.pool.reuse(size, usage) {
            return Ok(free);
        }
        let desc = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let making = format!("allocating {bytes} bytes for {what}");
        Ok(self.pool.adopt(self.errors.scoped(&self.device, &making, || self.device.create_buffer(&desc))?))
    }

    /// Writes `bytes` at `at` (a multiple of 4) of a buffer that no recorded step uses yet, the last word filled up with zeros.
    pub(super) fn write(&self, buffer: &Storage, at: usize, bytes: &[u8]) -> Result<()> {
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

    /// The copy is made while other threads record and submit; their submissions may take it along.
    fn write_piece(&self, buffer: &Storage, at: usize, piece: &[u8]) -> Result<()> {
        self.queue.write_buffer(buffer.raw(), at as u64, piece);
        let pending = self.pending_upload.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
        if pending >= MAX_PENDING_UPLOAD { self.submit(&mut self.recorder()) } else { Ok(()) }
    }

    /// Records one dispatch of about `work` multiply-adds. `params` fill the kernel's uniform, `bindings` its storage buffers,
    /// read or written as the kernel's `writes` says.
    pub(super) fn dispatch<P: Pod>(
        &self,
        kernel: &Kernel,
        params: &P,
        bindings: &[&Storage],
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
        let params = recorder.params(bytemuck::bytes_of(params));
        let bind_group = {
            let uniform = recorder.params_buffer();
            let buffers: Vec<&Storage> = uniform.into_iter().chain(bindings.iter().copied()).collect();
            self.pool.bind_group(pipeline.id, &buffers, || {
                let size = wgpu::BufferSize::new(PARAMS_BYTES as u64);
                let slot = |buffer| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size });
                let uniform = uniform.map(|buffer| wgpu::BindGroupEntry { binding: 0, resource: slot(buffer.raw()) });
                let storage = bindings.iter().map(|buffer| buffer.raw().as_entire_binding());
                let storage = storage.zip(1..).map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource });
                let entries: Vec<_> = uniform.into_iter().chain(storage).collect();
                let desc = wgpu::BindGroupDescriptor { label: Some(kernel.name), layout: &pipeline.layout, entries: &entries };
                self.device.create_bind_group(&desc)
            })
        };
        recorder.push(Step::Dispatch { pipeline, bindings: bind_group, params, groups }, work, bindings.iter().copied());
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

    /// Records a copy of `bytes` bytes (a multiple of 4) between two different buffers. It ends a pass.
    fn record_copy(&self, src: &Storage, src_at: u64, dst: &Storage, dst_at: u64, bytes: u64) -> Result<()> {
        let mut recorder = self.recorder();
        self.make_room(&mut recorder)?;
        let step = Step::Copy { src: src.raw().clone(), src_at, dst: dst.raw().clone(), dst_at, bytes };
        recorder.push(step, bytes as f64, [src, dst]);
        Ok(())
    }

    fn make_room(&self, recorder: &mut Recorder) -> Result<()> {
        if recorder.is_full() { self.submit(recorder) } else { Ok(()) }
    }

    fn submit(&self, recorder: &mut Recorder) -> Result<()> {
        self.errors.check()?;
        let uploaded = self.pending_upload.swap(0, Ordering::Relaxed);
        let oldest = recorder.submit(&self.device, &self.queue, uploaded, &self.pool.counters);
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
    pub(super) fn read_back<T: Pod>(&self, buffer: &Storage, range: Range<usize>) -> Result<Vec<T>> {
        let mut numbers = Vec::with_capacity(range.len());
        let step = TRANSFER_BYTES / size_of::<T>();
        for start in range.clone().step_by(step) {
            let end = range.end.min(start + step);
            self.read_piece(buffer, start, end - start, &mut numbers)?;
        }
        self.finish()?;
        Ok(numbers)
    }

    fn read_piece<T: Pod>(&self, buffer: &Storage, start: usize, count: usize, into: &mut Vec<T>) -> Result<()> {
        let bytes = (count * size_of::<T>()) as u64;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let landing = self.buffer(count * size_of::<T>(), usage, "what is read back")?;
        storage::count(&self.pool.counters.readbacks);
        self.record_copy(buffer, (start * size_of::<T>()) as u64, &landing, 0, bytes)?;
        let mut recorder = self.recorder();
        self.submit(&mut recorder)?;
        let (done, mapped) = mpsc::channel();
        landing.raw().map_async(wgpu::MapMode::Read, ..bytes, move |result| {
            let _ = done.send(result);
        });
        let waited = self.wait(None);
        recorder.all_done();
        drop(recorder);
        let failed = |error: &dyn std::fmt::Display| self.errors.error(format!("reading {bytes} bytes back: {error}"));
        let copied = waited.and_then(|()| self.errors.check()).and_then(|()| {
            mapped.recv().map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
            let view = landing.raw().get_mapped_range(..bytes).map_err(|error| failed(&error))?;
            into.extend(bytemuck::pod_collect_to_vec::<u8, T>(&view));
            Ok(())
        });
        // For whoever has it next.
        landing.raw().unmap();
        copied
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
