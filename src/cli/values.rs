//! How the words of the command line name what the rooms below offer: those know nothing of a command line.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::observe::sensor::Sensor;
use crate::plan::KeepLookedAt;
use crate::verify::Level;

impl ValueEnum for Sensor {
    fn value_variants<'a>() -> &'a [Sensor] {
        &[Sensor::Auto, Sensor::Full, Sensor::Notify, Sensor::Fanotify]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.word()))
    }
}

impl ValueEnum for KeepLookedAt {
    fn value_variants<'a>() -> &'a [KeepLookedAt] {
        &[KeepLookedAt::None, KeepLookedAt::Checked, KeepLookedAt::Listed, KeepLookedAt::All]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            KeepLookedAt::None => "none",
            KeepLookedAt::Checked => "checked",
            KeepLookedAt::Listed => "listed",
            KeepLookedAt::All => "all",
        }))
    }
}

impl ValueEnum for Level {
    fn value_variants<'a>() -> &'a [Level] {
        &[Level::Strict, Level::Run, Level::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Level::Strict => "strict",
            Level::Run => "run",
            Level::Off => "off",
        }))
    }
}
