//! Collects dispatches and copies and hands them to the driver in batches: few enough to be cheap, small enough that no batch
//! runs into a watchdog and that memory freed by the caller is soon freed on the device. Knows nothing of kernels.

use std::collections::VecDeque;
use std::sync::Arc;

use super::pipeline::Pipeline;

/// Steps in one submission; also the slots of the parameter buffer. A decoding step has several hundred: in portions, the
/// device works on one while the host records the next.
const MAX_STEPS: usize = 128;
/// Bytes of one parameter slot; the parameters of every kernel fit.
pub(super) const PARAMS_BYTES: usize = 64;
/// Submissions that may be under way before the next one waits. Bounds how far the host runs ahead, and with it how long
/// dropped buffers stay alive.
const MAX_IN_FLIGHT: usize = 4;
/// Uploaded bytes that may wait for the next submission.
const MAX_PENDING_UPLOAD: usize = 32 << 20;
/// Uploaded bytes under way: the driver keeps a copy of them until their submission is done.
const MAX_UPLOAD_IN_FLIGHT: usize = 96 << 20;

pub(super) enum Step {
    Dispatch { pipeline: Arc<Pipeline>, bindings: wgpu::BindGroup, params_at: u32, groups: [u32; 3] },
    Copy { src: wgpu::Buffer, src_at: u64, dst: wgpu::Buffer, dst_at: u64, bytes: u64 },
}

/// The queue of steps not yet submitted, and the submissions not yet known to be done.
pub(super) struct Recorder {
    steps: Vec<Step>,
    params: Vec<u8>,
    params_buffer: wgpu::Buffer,
    params_stride: usize,
    work: f64,
    work_limit: f64,
    pending_upload: usize,
    /// Each with the bytes uploaded for it, oldest first.
    in_flight: VecDeque<(wgpu::SubmissionIndex, usize)>,
}

impl Recorder {
    /// A recorder that submits whenever `work_limit` (about that many multiply-adds) have come together.
    pub fn new(device: &wgpu::Device, work_limit: f64) -> Self {
        let params_stride = PARAMS_BYTES.max(device.limits().min_uniform_buffer_offset_alignment as usize);
        let params_buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: (params_stride * MAX_STEPS) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self {
            steps: Vec::new(),
            params: Vec::new(),
            params_buffer,
            params_stride,
            work: 0.0,
            work_limit,
            pending_upload: 0,
            in_flight: VecDeque::new(),
        }
    }

    /// The binding through which kernels see their parameters, at the offset that [`Recorder::push_params`] gives.
    pub fn params_binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.params_buffer,
            offset: 0,
            size: wgpu::BufferSize::new(PARAMS_BYTES as u64),
        })
    }

    /// Stores a kernel's parameters until the next submission and returns their offset.
    pub fn push_params(&mut self, params: &[u8]) -> u32 {
        assert!(params.len() <= PARAMS_BYTES, "kernel parameters outgrew their slot");
        let at = self.params.len();
        self.params.extend_from_slice(params);
        self.params.resize(at + self.params_stride, 0);
        at as u32
    }

    /// Whether the next step has to wait for a submission: no room, or enough work for one.
    pub fn is_full(&self) -> bool {
        self.steps.len() >= MAX_STEPS || self.work >= self.work_limit || self.pending_upload >= MAX_PENDING_UPLOAD
    }

    /// Appends a step of about `work` multiply-adds.
    pub fn push(&mut self, step: Step, work: f64) {
        self.steps.push(step);
        self.work += work;
    }

    /// Notes that `bytes` were handed to the queue for the next submission.
    pub fn note_upload(&mut self, bytes: usize) {
        self.pending_upload += bytes;
    }

    /// Submits everything recorded. Returns the submission to wait for if too many are under way.
    #[must_use = "the returned submission must be waited for"]
    pub fn submit(&mut self, device: &wgpu::Device, queue: &wgpu::Queue) -> Option<wgpu::SubmissionIndex> {
        if self.steps.is_empty() && self.pending_upload == 0 {
            return None;
        }
        if !self.params.is_empty() {
            // Ordered by the queue after the previous submission, whose kernels read the same buffer.
            queue.write_buffer(&self.params_buffer, 0, &self.params);
        }
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encode(&mut encoder, &self.steps);
        self.in_flight.push_back((queue.submit([encoder.finish()]), self.pending_upload));
        self.steps.clear();
        self.params.clear();
        self.work = 0.0;
        self.pending_upload = 0;
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
fn encode(encoder: &mut wgpu::CommandEncoder, steps: &[Step]) {
    for run in steps.chunk_by(|a, b| matches!((a, b), (Step::Dispatch { .. }, Step::Dispatch { .. }))) {
        if let [Step::Copy { src, src_at, dst, dst_at, bytes }] = run {
            encoder.copy_buffer_to_buffer(src, *src_at, dst, *dst_at, *bytes);
            continue;
        }
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for step in run {
            if let Step::Dispatch { pipeline, bindings, params_at, groups: [x, y, z] } = step {
                pass.set_pipeline(&pipeline.raw);
                pass.set_bind_group(0, bindings, &[*params_at]);
                pass.dispatch_workgroups(*x, *y, *z);
            }
        }
    }
}
