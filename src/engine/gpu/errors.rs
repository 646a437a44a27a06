//! Where the driver's complaints end up. wgpu reports most failures through callbacks, later than the call that caused them;
//! they are kept here and turn the next check into an error. Nothing here decides what to do about them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitworth_quant::message::Message;

use crate::backend::{DEVICE, DeviceError, Result};

/// The first complaint of a device, shared with its callbacks. It stays: after one, results are not to be trusted.
#[derive(Clone)]
pub(super) struct Errors {
    device: String,
    kept: Arc<Mutex<Kept>>,
}

/// The loss of the device explains whatever else was reported, and may be reported after it.
#[derive(Default)]
struct Kept {
    lost: Option<Message>,
    first: Option<Message>,
}

impl Errors {
    /// Listens to `device`, which goes by the name `name`.
    pub fn listen(device: &wgpu::Device, name: &str) -> Self {
        let errors = Self { device: name.to_owned(), kept: Arc::default() };
        let uncaptured = errors.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| uncaptured.note(remedy(&error))));
        let lost = errors.clone();
        device.set_device_lost_callback(move |_, message| {
            lost.note_loss(message.trim());
        });
        errors
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps `what` if it is the first.
    pub fn note(&self, what: impl Into<Message>) {
        self.kept().first.get_or_insert(what.into());
    }

    /// Keeps that the device is gone.
    pub fn note_loss(&self, why: &str) {
        let text = || {
            let lost = format!("the device was lost ({why}): a driver reset, a time limit or too little memory; ");
            Message::from(lost).then(DEVICE.with("cpu")).then(" always works")
        };
        self.kept().lost.get_or_insert_with(text);
    }

    /// Fails if anything was ever reported.
    pub fn check(&self) -> Result<()> {
        let kept = self.kept();
        match kept.lost.as_ref().or(kept.first.as_ref()) {
            None => Ok(()),
            Some(what) => Err(self.error(what.clone())),
        }
    }

    /// An error of this device.
    pub fn error(&self, what: impl Into<Message>) -> DeviceError {
        DeviceError { device: self.device.clone(), what: what.into() }
    }

    /// Runs `create` and returns what it made, or the complaint it caused (`what` says what was being made). Such a failure
    /// is not kept: the caller may try something smaller.
    pub fn scoped<T>(&self, device: &wgpu::Device, what: &str, create: impl FnOnce() -> T) -> Result<T> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let scopes = [Validation, OutOfMemory, Internal].map(|filter| device.push_error_scope(filter));
        let made = create();
        // Scopes close in the reverse of the order in which they opened.
        let mut complaints = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
        let first = complaints.next();
        complaints.for_each(drop);
        match first {
            None => Ok(made),
            Some(error) => Err(self.error(Message::from(format!("{what}: ")).then(remedy(&error)))),
        }
    }
}

fn remedy(error: &wgpu::Error) -> Message {
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            Message::from("out of device memory: use a smaller batch or ").then(DEVICE.with("cpu"))
        }
        other => other.to_string().into(),
    }
}
