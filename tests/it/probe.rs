//! The profile that `probe` writes is one that `advise` reads.

use std::path::Path;

use bitworth::advise::hardware::HardwareProfile;
use bitworth::engine::backend::{DeviceInfo, DeviceKind};
use bitworth::eval::stats::Spread;
use bitworth::measure::probe::{Measured, Rates, System, write_profile};

fn rates(name: &str, api: &str, kind: DeviceKind, memory_bytes: Option<u64>) -> Rates {
    let spread = |value: f64| Spread::of(&[value, value * 1.1, value * 0.9]).unwrap();
    Rates {
        device: DeviceInfo { name: name.into(), api: api.into(), kind, driver: String::new() },
        memory_bytes,
        bytes: 1 << 30,
        read_gbs: spread(212.34567),
        copy_gbs: spread(200.0),
        fp32_tflops: spread(1.23456),
    }
}

fn measured(gpu: Option<Rates>) -> Measured {
    let system = System { cpu: "CPU".into(), cores: Some(16), threads: 32, memory_bytes: 128 << 30 };
    Measured { system, cpu: rates("AMD Ryzen", "cpu", DeviceKind::Cpu, None), gpu, disk: Err("no".into()) }
}

#[track_caller]
fn check(measured: &Measured, expected: &[(&str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/this.toml");
    write_profile(&path, measured).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let read = HardwareProfile::parse(&path, &text).unwrap();
    assert_eq!(
        (read.id.as_str(), read.name.as_str()),
        ("this", measured.gpu.as_ref().unwrap_or(&measured.cpu).device.name.as_str())
    );
    let table: toml::Table = text.parse().unwrap();
    for (key, value) in expected {
        let found = if *key == "gb" { &table["memory"][0]["gb"] } else { &table[*key] };
        assert_eq!(found.to_string(), *value, "{key}");
    }
}

#[test]
fn the_profile_is_that_of_the_device_that_runs_models() {
    let cpu = [
        ("name", "\"AMD Ryzen\""),
        ("kind", "\"cpu\""),
        ("vendor", "\"amd\""),
        ("compute_units", "16"),
        ("bandwidth_gbs", "212.3"),
        ("fp32_tflops", "1.235"),
        ("gb", "128.0"),
        ("backends", "[\"CPU\"]"),
    ];
    check(&measured(None), &cpu);
    let integrated = rates("AMD Radeon 8060S", "vulkan", DeviceKind::IntegratedGpu, Some(1 << 30));
    check(&measured(Some(integrated)), &[("kind", "\"amd-unified\""), ("gb", "128.0"), ("backends", "[\"Vulkan\"]")]);
    let discrete = rates("NVIDIA GeForce RTX 3090", "vulkan", DeviceKind::DiscreteGpu, Some(24 << 30));
    check(&measured(Some(discrete)), &[("kind", "\"discrete-gpu\""), ("gb", "24.0"), ("vendor", "\"nvidia\"")]);
    let software = rates("llvmpipe", "vulkan", DeviceKind::SoftwareGpu, Some(1 << 30));
    check(&measured(Some(software)), &[("kind", "\"cpu\""), ("gb", "128.0"), ("vendor", "\"other\"")]);
}

#[test]
fn another_name_than_a_profiles_is_refused() {
    let error = write_profile(Path::new("this.txt"), &measured(None)).unwrap_err().to_string();
    assert!(error.contains("this.txt") && error.contains(".toml"), "{error}");
}
