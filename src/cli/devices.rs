//! `bitworth devices`: what could run a model here, and what `--device auto` would pick.

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Outcome;
use super::session::Session;
use bitworth_engine::adapter::{AdapterDescription, list_adapters};
use bitworth_measure::device::{Device, DeviceSelector};

/// List devices, their limits, and what auto would pick.
#[derive(Args)]
pub struct DevicesArgs {}

/// One adapter as a line.
fn line(adapter: &AdapterDescription) -> String {
    let memory = adapter.memory_bytes.map_or(String::new(), |b| format!(", {} MiB", b >> 20));
    let AdapterDescription { info, .. } = adapter;
    format!(
        "gpu:{}  {} ({}, {:?}, {}{memory}, bindings up to {} MiB, subgroups of {} to {})\n",
        adapter.index,
        info.name,
        info.api,
        info.kind,
        info.driver,
        adapter.max_binding_bytes >> 20,
        adapter.subgroup_sizes.0,
        adapter.subgroup_sizes.1
    )
}

pub fn run(_args: &DevicesArgs, session: &Session) -> Result<Outcome> {
    let cpu = Device::open(DeviceSelector::Cpu)?;
    let adapters = list_adapters();
    let auto = adapters.iter().find(|a| a.auto).map_or_else(|| "cpu".to_owned(), |a| format!("gpu:{}", a.index));
    let document = json!({ "auto": auto, "cpu": cpu.info(), "gpus": adapters });
    session.print(&document, || {
        let info = cpu.info();
        let threads = rayon::current_num_threads();
        let mut text = format!("cpu    {} ({}, {threads} threads)\n", info.name, info.driver);
        for adapter in &adapters {
            text += &line(adapter);
        }
        if cfg!(not(feature = "gpu")) {
            text += "gpu    none: this program was built without the feature `gpu`\n";
        }
        text + &format!("auto   {auto}\n")
    })?;
    Ok(Outcome::Done)
}
