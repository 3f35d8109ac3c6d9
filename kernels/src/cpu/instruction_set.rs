//! Which vector instructions the fused operations use: [`InstructionSet`], the best of this CPU or the one that
//! `FIREBRAND_CPU` names.

use pulp::Arch;
use std::sync::OnceLock;

/// The environment variable that names an instruction set.
const VARIABLE: &str = "FIREBRAND_CPU";

/// A set of vector instructions. Results have the same bytes for any number of threads, and differ between sets in the last digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// What every CPU of the target has.
    Portable,
    /// 128 bits, ARM.
    Neon,
    /// The same with products of bf16 numbers.
    NeonBf16,
    /// 256 bits with fused multiply-add, x86-64.
    Avx2,
    /// 512 bits, x86-64.
    Avx512,
    /// The same with products of bf16 numbers.
    Avx512Bf16,
    /// The same with products of tiles of bf16 numbers.
    AmxBf16,
}

/// A set that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstructionSetError {
    /// No set has this name.
    #[error("{VARIABLE} is `{name}`, which is no instruction set: write {known}")]
    Unknown {
        /// The name.
        name: String,
        /// All names.
        known: String,
    },
    /// This CPU does not have it.
    #[error("{VARIABLE} is `{name}`, which this CPU does not have: it has {has}")]
    Missing {
        /// The name.
        name: &'static str,
        /// The names of those that it has.
        has: String,
    },
}

impl InstructionSet {
    /// All sets, the best last.
    pub const ALL: [Self; 7] =
        [Self::Portable, Self::Neon, Self::NeonBf16, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::AmxBf16];

    /// Its name in `FIREBRAND_CPU`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::NeonBf16 => "neon-bf16",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::AmxBf16 => "amx-bf16",
        }
    }

    /// Whether it multiplies bf16 numbers faster than f32 numbers.
    pub fn multiplies_bf16(self) -> bool {
        match self {
            Self::NeonBf16 | Self::Avx512Bf16 | Self::AmxBf16 => true,
            Self::Portable | Self::Neon | Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// Those of this CPU, the best last.
    pub fn available() -> impl DoubleEndedIterator<Item = Self> {
        Self::ALL.into_iter().filter(|set| set.arch().is_some())
    }

    /// The set that operations use.
    ///
    /// # Errors
    /// `FIREBRAND_CPU` names none, or one that this CPU does not have. Operations then use the best one.
    pub fn chosen() -> Result<Self, InstructionSetError> {
        static CHOSEN: OnceLock<Result<InstructionSet, InstructionSetError>> = OnceLock::new();
        CHOSEN.get_or_init(|| Self::named(std::env::var(VARIABLE).ok().as_deref())).clone()
    }

    /// The set of that name, or the best one.
    fn named(name: Option<&str>) -> Result<Self, InstructionSetError> {
        let names = |sets: &mut dyn Iterator<Item = Self>| sets.map(Self::name).collect::<Vec<_>>().join(", ");
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(Self::best()) };
        let found = Self::ALL.into_iter().find(|set| set.name() == name);
        let found = found.ok_or_else(|| InstructionSetError::Unknown {
            name: name.into(),
            known: names(&mut Self::ALL.into_iter()),
        })?;
        match found.arch() {
            Some(_) => Ok(found),
            None => Err(InstructionSetError::Missing { name: found.name(), has: names(&mut Self::available()) }),
        }
    }

    fn best() -> Self {
        Self::available().next_back().unwrap_or(Self::Portable)
    }

    /// What runs the loops of this set; absent where this CPU does not have it.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn arch(self) -> Option<Arch> {
        let avx512 = || pulp::x86::V4::try_new().map(Arch::V4);
        let avx512_bf16 = || avx512().filter(|_| std::arch::is_x86_feature_detected!("avx512bf16"));
        match self {
            Self::Portable => Some(Arch::Scalar),
            Self::Neon | Self::NeonBf16 => None,
            Self::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            Self::Avx512 => avx512(),
            Self::Avx512Bf16 => avx512_bf16(),
            Self::AmxBf16 => avx512_bf16().filter(|_| super::pairs::has_tiles()),
        }
    }

    /// What runs the loops of this set; absent where this CPU does not have it.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn arch(self) -> Option<Arch> {
        let neon = || pulp::aarch64::Neon::try_new().map(Arch::Neon);
        match self {
            Self::Portable => Some(Arch::Scalar),
            Self::Neon => neon(),
            Self::NeonBf16 => neon().filter(|_| std::arch::is_aarch64_feature_detected!("bf16")),
            Self::Avx2 | Self::Avx512 | Self::Avx512Bf16 | Self::AmxBf16 => None,
        }
    }

    /// What runs the loops of this set; absent where this CPU does not have it.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(super) fn arch(self) -> Option<Arch> {
        (self == Self::Portable).then(Arch::new)
    }
}

/// The set that operations of this thread use, and what runs its loops.
pub(crate) fn current() -> (InstructionSet, Arch) {
    #[cfg(test)]
    if let Some(forced) = testing::FORCED.get() {
        return forced;
    }
    static CURRENT: OnceLock<(InstructionSet, Arch)> = OnceLock::new();
    *CURRENT.get_or_init(|| {
        let set = InstructionSet::chosen().unwrap_or_else(|_| InstructionSet::best());
        (set, set.arch().unwrap_or(Arch::Scalar))
    })
}

/// Lets tests run what other CPUs would run.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// The instruction set of this thread, instead of the chosen one.
        pub static FORCED: Cell<Option<(InstructionSet, Arch)>> = const { Cell::new(None) };
    }

    /// Runs `work` once for each instruction set this CPU has, on one thread, and for products of tiles without instructions for them.
    pub fn with_each_instruction_set(work: impl Fn() + Sync) {
        let with = |set: InstructionSet, arch: Arch, prepare: fn()| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            pool.install(|| {
                prepare();
                FORCED.set(Some((set, arch)));
                work();
            });
        };
        for set in InstructionSet::available() {
            with(set, set.arch().unwrap(), || {});
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(arch) = InstructionSet::Avx512Bf16.arch() {
            with(InstructionSet::AmxBf16, arch, || crate::cpu::pairs::EMULATED.set(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_set_of_this_cpu_or_an_error_that_says_which_there_are() {
        assert_eq!(InstructionSet::named(None), Ok(InstructionSet::best()));
        assert_eq!(InstructionSet::named(Some("")), Ok(InstructionSet::best()));
        for set in InstructionSet::available() {
            assert_eq!(InstructionSet::named(Some(set.name())), Ok(set));
        }
        let unknown = InstructionSet::named(Some("sse")).unwrap_err().to_string();
        assert!(unknown.contains("`sse`") && unknown.contains("portable, neon, neon-bf16, avx2"), "{unknown}");
        let other = if cfg!(target_arch = "x86_64") { InstructionSet::Neon } else { InstructionSet::Avx2 };
        let missing = InstructionSet::named(Some(other.name())).unwrap_err().to_string();
        assert!(missing.contains("does not have") && missing.contains("portable"), "{missing}");
    }
}
