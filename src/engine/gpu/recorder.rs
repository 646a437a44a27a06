//! Collects dispatches and copies and hands them to the driver in batches: few enough to be cheap, small enough that no batch
//! runs into a watchdog and that memory freed by the caller is soon freed on the device. Knows nothing of kernels.

use std::collections::VecDeque;
use std::sync::Arc;

use super::pipeline::{PARAMS_BYTES, Pipeline};
use super::storage::{Counters, Storage, count};

/// Steps in one submission: a token of the deepest models, or several of others. Also the slots of the parameter buffer.
const MAX_STEPS: usize = 2048;
/// Submissions that may be under way before the next one waits. Bounds how far the host runs ahead, and with it how long
/// dropped buffers stay alive.
const MAX_IN_FLIGHT: usize = 4;
/// Uploaded bytes that may wait for the next submission.
pub(super) const MAX_PENDING_UPLOAD: usize = 32 << 20;
/// Uploaded bytes under way: the driver keeps a copy of them until their submission is done.
const MAX_UPLOAD_IN_FLIGHT: usize = 96 << 20;

pub(super) enum Step {
    Dispatch { pipeline: Arc<Pipeline>, bindings: wgpu::BindGroup, params: Params, groups: [u32; 3] },
    Copy { src: wgpu::Buffer, src_at: u64, dst: wgpu::Buffer, dst_at: u64, bytes: u64 },
}

/// Where a dispatch has its parameters.
pub(super) enum Params {
    /// With itself; so many bytes.
    Immediate([u8; PARAMS_BYTES], usize),
    /// In the parameter buffer, from there on.
    Uniform(u32),
}

/// The queue of steps not yet submitted, and the submissions not yet known to be done.
pub(super) struct Recorder {
    steps: Vec<Step>,
    /// What the steps use.
    held: Vec<Storage>,
    params: Vec<u8>,
    /// None where parameters are immediates.
    params_buffer: Option<Storage>,
    params_stride: usize,
    work: f64,
    work_limit: f64,
    /// Each with the bytes uploaded for it, oldest first.
    in_flight: VecDeque<(wgpu::SubmissionIndex, usize)>,
}

impl Recorder {
    /// A recorder that submits whenever `work_limit` (about that many multiply-adds) have come together; `make` gives it a
    /// buffer of so many bytes for parameters, or nothing where they are immediates.
    pub fn new(device: &wgpu::Device, work_limit: f64, make: impl FnOnce(usize) -> Option<Storage>) -> Self {
        let params_stride = PARAMS_BYTES.max(device.limits().min_uniform_buffer_offset_alignment as usize);
        Self {
            steps: Vec::new(),
            held: Vec::new(),
            params: Vec::new(),
            params_buffer: make(params_stride * MAX_STEPS),
            params_stride,
            work: 0.0,
            work_limit,
            in_flight: VecDeque::new(),
        }
    }

    /// The buffer in which kernels see their parameters, where they do, [`PARAMS_BYTES`] at the offset that
    /// [`Recorder::params`] gives.
    pub fn params_buffer(&self) -> Option<&Storage> {
        self.params_buffer.as_ref()
    }

    /// Stores a kernel's parameters until the next submission.
    pub fn params(&mut self, params: &[u8]) -> Params {
        assert!(params.len() <= PARAMS_BYTES, "kernel parameters outgrew their slot");
        if self.params_buffer.is_none() {
            let mut bytes = [0; PARAMS_BYTES];
            bytes[..params.len()].copy_from_slice(params);
            return Params::Immediate(bytes, params.len());
        }
        let at = self.params.len();
        self.params.extend_from_slice(params);
        self.params.resize(at + self.params_stride, 0);
        Params::Uniform(at as u32)
    }

    /// Whether the next step has to wait for a submission: no room, or enough work for one.
    pub fn is_full(&self) -> bool {
        self.steps.len() >= MAX_STEPS || self.work >= self.work_limit
    }

    /// Appends a step of about `work` multiply-adds that uses these buffers.
    pub fn push<'s>(&mut self, step: Step, work: f64, uses: impl IntoIterator<Item = &'s Storage>) {
        self.steps.push(step);
        self.held.extend(uses.into_iter().cloned());
        self.work += work;
    }

    /// Submits everything recorded, and what was handed to the queue before: `uploaded` bytes. Returns the submission to wait
    /// for if too many are under way.
    #[must_use = "the returned submission must be waited for"]
    pub fn submit(
        &mut self,
        device: &wgpu::Device,
        queue: &wgpu::Queue,
        uploaded: usize,
        counters: &Counters,
    ) -> Option<wgpu::SubmissionIndex> {
        if self.steps.is_empty() && uploaded == 0 {
            return None;
        }
        if let Some(buffer) = self.params_buffer.as_ref().filter(|_| !self.params.is_empty()) {
            // Ordered by the queue after the previous submission, whose kernels read the same buffer.
            queue.write_buffer(buffer.raw(), 0, &self.params);
        }
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encode(&mut encoder, &self.steps, counters);
        count(&counters.submits);
        self.in_flight.push_back((queue.submit([encoder.finish()]), uploaded));
        self.steps.clear();
        self.held.clear();
        self.params.clear();
        self.work = 0.0;
        self.overdue()
    }

    /// Takes out submissions, oldest first, until few enough are under way; the last one taken is to be waited for.
    fn overdue(&mut self) -> Option<wgpu::SubmissionIndex> {
        let mut bytes: usize = self.in_flight.iter().map(|(_, bytes)| bytes).sum();
        let mut overdue = None;
        while self.in_flight.len() > MAX_IN_FLIGHT || bytes > MAX_UPLOAD_IN_FLIGHT {
            let (oldest, uploaded) = self.in_flight.pop_front()?;
            bytes -= uploaded;
            overdue = Some(oldest);
        }
        overdue
    }

    /// Forgets the submissions under way: the caller has waited for all of them.
    pub fn all_done(&mut self) {
        self.in_flight.clear();
    }
}

/// Runs of dispatches share one pass; a copy ends it.
fn encode(encoder: &mut wgpu::CommandEncoder, steps: &[Step], counters: &Counters) {
    for run in steps.chunk_by(|a, b| matches!((a, b), (Step::Dispatch { .. }, Step::Dispatch { .. }))) {
        if let [Step::Copy { src, src_at, dst, dst_at, bytes }] = run {
            encoder.copy_buffer_to_buffer(src, *src_at, dst, *dst_at, *bytes);
            continue;
        }
        count(&counters.passes);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for step in run {
            if let Step::Dispatch { pipeline, bindings, params, groups: [x, y, z] } = step {
                count(&counters.dispatches);
                pass.set_pipeline(&pipeline.raw);
                match params {
                    Params::Immediate(bytes, len) => {
                        pass.set_bind_group(0, bindings, &[]);
                        pass.set_immediates(0, &bytes[..*len]);
                    }
                    Params::Uniform(at) => pass.set_bind_group(0, bindings, &[*at]),
                }
                pass.dispatch_workgroups(*x, *y, *z);
            }
        }
    }
}
