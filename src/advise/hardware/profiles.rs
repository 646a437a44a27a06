//! The machines that come with the program: one row a file of `configs/hardware/`. A test compares this with the folder.
//!
//! Absent: anything about them.

/// Ids and the text of their files.
macro_rules! profiles {
    ($($id:literal)*) => {
        &[$(($id, include_str!(concat!("../../../configs/hardware/", $id, ".toml")))),*]
    };
}

/// Id and text of every profile.
#[rustfmt::skip]
pub const PROFILES: &[(&str, &str)] = profiles![
    "2x-epyc-7003" "2x-epyc-9004" "2x-epyc-9005" "2x-epyc-9r14" "2x-xeon-e5-2680-v4" "2x-xeon-gold-6138"
    "2x-xeon-sapphire-rapids" "a10" "a100-pcie-40gb" "a100-pcie-80gb" "a100-sxm-40gb" "a100-sxm-80gb" "a10g" "a16" "a2" "a30"
    "a40" "a800" "ampere-altra" "ampereone-a192" "arc-a380" "arc-a580" "arc-a750" "arc-a770" "arc-b570" "arc-b580" "arc-pro-b50"
    "arc-pro-b60" "arc-pro-b70" "b200" "b300" "cmp-170hx" "core-i5-13600k" "core-i7-13700k" "core-i7-8700k" "core-i9-10900k"
    "core-i9-12900k" "core-i9-13900k" "core-i9-14900k" "core-ultra-155h" "core-ultra-258v" "core-ultra-285h" "core-ultra-9-285k"
    "desktop-ddr5-6000" "dgx-spark" "epyc-7002" "epyc-7003" "epyc-9004" "epyc-9005" "gh200" "gh200-144" "grace" "graviton3"
    "graviton4" "gtx-1060" "gtx-1070" "gtx-1080" "gtx-1080-ti" "gtx-1650" "gtx-1660-super" "h100-nvl" "h100-pcie" "h100-sxm"
    "h20" "h200" "h200-nvl" "instinct-mi100" "instinct-mi210" "instinct-mi25" "instinct-mi250x" "instinct-mi300a"
    "instinct-mi300x" "instinct-mi325x" "instinct-mi355x" "instinct-mi50" "instinct-mi60" "intel-n100" "jetson-agx-orin"
    "jetson-orin-nano" "jetson-orin-nx" "jetson-thor" "l4" "l40" "l40s" "m1-7" "m1-8" "m1-cpu" "m1-max-24" "m1-max-32"
    "m1-max-cpu" "m1-pro-14" "m1-pro-16" "m1-ultra-48" "m1-ultra-64" "m2-10" "m2-8" "m2-cpu" "m2-max-30" "m2-max-38"
    "m2-max-cpu" "m2-pro-16" "m2-pro-19" "m2-ultra-60" "m2-ultra-76" "m2-ultra-cpu" "m3-10" "m3-8" "m3-max-30" "m3-max-40"
    "m3-max-cpu" "m3-pro-14" "m3-pro-18" "m3-ultra-60" "m3-ultra-80" "m4-10" "m4-8" "m4-cpu" "m4-max-32" "m4-max-40"
    "m4-max-cpu" "m4-pro-16" "m4-pro-20" "m4-pro-cpu" "m5-10" "m5-8" "m5-max-32" "m5-max-40" "m5-pro-16" "m5-pro-20"
    "orange-pi-5" "quadro-rtx-6000" "quadro-rtx-8000" "radeon-680m" "radeon-780m" "radeon-ai-pro-r9700" "radeon-pro-w6800"
    "radeon-pro-w7800" "radeon-pro-w7800-48gb" "radeon-pro-w7900" "radeon-vii" "raspberry-pi-4" "raspberry-pi-5" "rtx-2000-ada"
    "rtx-2060" "rtx-2060-12gb" "rtx-2060-super" "rtx-2070" "rtx-2070-super" "rtx-2080" "rtx-2080-super" "rtx-2080-ti"
    "rtx-2080-ti-22gb" "rtx-3050" "rtx-3060" "rtx-3060-8gb" "rtx-3060-laptop" "rtx-3060-ti" "rtx-3070" "rtx-3070-laptop"
    "rtx-3070-ti" "rtx-3080" "rtx-3080-12gb" "rtx-3080-laptop" "rtx-3080-ti" "rtx-3090" "rtx-3090-ti" "rtx-4000-ada"
    "rtx-4000-sff-ada" "rtx-4050-laptop" "rtx-4060" "rtx-4060-laptop" "rtx-4060-ti" "rtx-4070" "rtx-4070-laptop"
    "rtx-4070-super" "rtx-4070-ti" "rtx-4070-ti-super" "rtx-4080" "rtx-4080-laptop" "rtx-4080-super" "rtx-4090"
    "rtx-4090-laptop" "rtx-4090d" "rtx-4500-ada" "rtx-5000-ada" "rtx-5050" "rtx-5060" "rtx-5060-ti" "rtx-5060-ti-8gb" "rtx-5070"
    "rtx-5070-ti" "rtx-5080" "rtx-5090" "rtx-5090-laptop" "rtx-6000-ada" "rtx-a2000" "rtx-a4000" "rtx-a4500" "rtx-a5000"
    "rtx-a5500" "rtx-a6000" "rtx-pro-2000-blackwell" "rtx-pro-4000-blackwell" "rtx-pro-4500-blackwell" "rtx-pro-5000-blackwell"
    "rtx-pro-6000" "rtx-pro-6000-server" "rx-5700-xt" "rx-580" "rx-6600" "rx-6600-xt" "rx-6650-xt" "rx-6700-xt" "rx-6750-xt"
    "rx-6800" "rx-6800-xt" "rx-6900-xt" "rx-6950-xt" "rx-7600" "rx-7600-xt" "rx-7700-xt" "rx-7800-xt" "rx-7900-gre" "rx-7900-xt"
    "rx-7900-xtx" "rx-9060-xt" "rx-9070" "rx-9070-gre" "rx-9070-xt" "ryzen-7-5800x" "ryzen-7-7700x" "ryzen-7-9700x"
    "ryzen-9-3900x" "ryzen-9-5950x" "ryzen-9-7950x" "ryzen-9-9950x" "ryzen-ai-9-hx-370" "ryzen-ai-max-390" "ryzen-ai-max-395"
    "snapdragon-8-elite" "snapdragon-8-gen-3" "snapdragon-x-elite" "tesla-m40" "tesla-p100" "tesla-p40" "tesla-t4" "tesla-v100"
    "threadripper-3970x" "threadripper-7960x" "threadripper-7980x" "threadripper-pro-5995wx" "threadripper-pro-7995wx"
    "threadripper-pro-9995wx" "titan-rtx" "titan-xp" "vega-64" "xeon-e5-2680-v4" "xeon-emerald-rapids" "xeon-granite-rapids"
    "xeon-ice-lake" "xeon-sapphire-rapids" "xeon-w9-3495x"
];
