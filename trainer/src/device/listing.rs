//! Every device that this build and this machine have: [`listing`].

use firebrand_kernels::memory_of;
use serde::Serialize;

use super::chosen::{decided, hardware, open};
use super::numbers::{Numbers, has};
use super::{adapters, cards};
use crate::host::Host;
use crate::recipe::{DeviceName, GraphicsApi};

/// The devices of this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listing {
    /// All devices, the processor first.
    pub devices: Vec<Listed>,
    /// What `auto` means.
    pub auto: String,
    /// The cargo features that this build is made without.
    pub left_out: Vec<&'static str>,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// Its name for `--device` and for `device = ..` in a recipe.
    pub device: String,
    /// `processor`, `discrete`, `integrated`, `virtual`, `other` or `software`.
    pub kind: &'static str,
    /// The name of the hardware.
    pub name: String,
    /// Name and version of its driver.
    pub driver: Option<String>,
    /// Its memory in bytes, where it is told.
    pub memory: Option<u64>,
    /// The numbers that weights can be held in there, and products read.
    pub precisions: Vec<Numbers>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// Looks for devices, and opens each of them to learn what it can do.
pub fn listing() -> Listing {
    let mut devices = vec![processor()];
    for (maker, name) in [
        (cards::Maker::Nvidia, (|index| DeviceName::Cuda { index }) as fn(usize) -> DeviceName),
        (cards::Maker::Amd, |index| DeviceName::Rocm { index }),
    ] {
        devices.extend((0..cards::count(maker)).map(|index| listed(&name(index), "discrete")));
    }
    for api in GraphicsApi::ALL {
        let adapters = adapters::found(api);
        devices
            .extend(api.names(adapters).iter().zip(adapters).map(|(name, adapter)| listed(name, adapter.kind.word())));
    }
    let of_cards = [cards::Maker::Nvidia, cards::Maker::Amd].map(|maker| (maker.is_built(), maker.feature()));
    let of_adapters = GraphicsApi::ALL.map(|api| (api.is_built(), api.feature()));
    let features = of_cards.into_iter().chain(of_adapters);
    let left_out = features.filter(|(built, _)| !built).map(|(_, feature)| feature).collect();
    Listing { devices, auto: decided(&DeviceName::Auto).to_string(), left_out }
}

fn processor() -> Listed {
    let host = Host::here();
    Listed {
        device: "cpu".into(),
        kind: "processor",
        name: host.processor.unwrap_or_else(|| "an unnamed processor".into()),
        driver: host.instructions,
        memory: host.memory,
        precisions: Numbers::ALL.to_vec(),
        problem: None,
    }
}

fn listed(name: &DeviceName, kind: &'static str) -> Listed {
    let hardware = hardware(name).unwrap_or_default();
    let listed = Listed {
        device: name.to_string(),
        kind,
        name: hardware.name,
        driver: hardware.driver,
        memory: None,
        precisions: vec![],
        problem: None,
    };
    match open(name) {
        Ok(device) => Listed {
            memory: memory_of(&device),
            precisions: Numbers::ALL.into_iter().filter(|numbers| has(&device, *numbers)).collect(),
            ..listed
        },
        Err(error) => Listed { problem: Some(error.to_string()), ..listed },
    }
}
