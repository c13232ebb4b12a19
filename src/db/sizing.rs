//! How many connections, by the guide's formulas and its table of workloads.

use std::time::Duration;

use serde::Serialize;

/// Sizes and times of a pool, for all shards: see [`DbOptions::sized`](crate::DbOptions::sized).
///
/// They are where to begin. Then measure: waits say that there are too few, idle ones that there
/// are too many.
///
/// ```
/// use soloist::Sizing;
/// assert_eq!(Sizing::ssd(8).open_max, 32);
/// assert_eq!(Sizing::concurrency(500).open_max, 25);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Sizing {
    /// Connections that may be open at once.
    pub open_max: usize,
    /// Of those, how many are kept although nobody uses them.
    pub idle_max: usize,
    /// Of those, how many are kept however long nobody does.
    pub idle_min: usize,
    /// The age at which one is closed.
    pub lifetime: Duration,
}

/// What an application does most, with the guide's sizes for it.
///
/// ```
/// use soloist::{Sizing, Workload};
/// assert_eq!(Sizing::from(Workload::DatabaseIntensive).open_max, 40);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// More than 1,000 requests a second: 50 open, 15 idle, 3 minutes.
    HighThroughput,
    /// Many WebSockets: 25 open, 5 idle, 5 minutes.
    WebSockets,
    /// Complex queries, and many: 40 open, 10 idle, 5 minutes.
    DatabaseIntensive,
    /// Some of each: 30 open, 8 idle, 5 minutes.
    Mixed,
    /// Few requests: 10 open, 2 idle, 5 minutes.
    LowTraffic,
}

/// How requests come: what is kept idle for them.
///
/// ```
/// use soloist::{LoadShape, Sizing};
/// assert_eq!(Sizing::ssd(8).shaped(LoadShape::Burst).idle_max, 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadShape {
    /// Evenly: a fifth of the connections.
    Steady,
    /// In bursts: a third.
    Burst,
    /// Unpredictably: half.
    Variable,
}

/// Where the database is: how old connections may get.
///
/// ```
/// use std::time::Duration;
/// use soloist::{DbPlace, Sizing};
/// let minutes = |count: u64| Duration::from_secs(60 * count);
/// assert_eq!(Sizing::ssd(4).placed(DbPlace::BehindBalancer).lifetime, minutes(4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbPlace {
    /// Anywhere: 5 minutes.
    Standard,
    /// In a cloud that bounds connections: 3 minutes.
    Cloud,
    /// A stable machine of your own: 10 minutes.
    OnPremises,
    /// Behind a balancer that ends connections after 5 minutes: 4.
    BehindBalancer,
}

/// What the guide keeps at least.
const IDLE_MIN: usize = 2;

impl Sizing {
    /// Two a core of the database's machine, and one a disk that turns.
    ///
    /// ```
    /// assert_eq!(soloist::Sizing::by_spindles(4, 2).open_max, 10);
    /// ```
    pub fn by_spindles(cores: usize, spindles: usize) -> Sizing {
        Sizing::of(2 * cores + spindles)
    }

    /// Four a core of the database's machine: for SSDs and clouds.
    ///
    /// ```
    /// assert_eq!(soloist::Sizing::ssd(16).open_max, 64);
    /// ```
    pub fn ssd(cores: usize) -> Sizing {
        Sizing::of(4 * cores)
    }

    /// By how many requests run at once: below 100, to 1,000, and above.
    ///
    /// ```
    /// assert_eq!(soloist::Sizing::concurrency(5_000).open_max, 50);
    /// ```
    pub fn concurrency(requests: usize) -> Sizing {
        match requests {
            0..100 => Sizing::table(10, 2, 5),
            100..=1_000 => Sizing::table(25, 5, 5),
            _ => Sizing::table(50, 10, 3),
        }
    }

    /// The same, with as many idle ones as the load's shape asks for, but no fewer than two.
    ///
    /// ```
    /// use soloist::{LoadShape, Sizing};
    /// assert_eq!(Sizing::ssd(1).shaped(LoadShape::Steady).idle_max, 2);
    /// ```
    pub fn shaped(self, shape: LoadShape) -> Sizing {
        let part = match shape {
            LoadShape::Steady => 5,
            LoadShape::Burst => 3,
            LoadShape::Variable => 2,
        };
        Sizing { idle_max: (self.open_max / part).max(IDLE_MIN), ..self }
    }

    /// The same, with the lifetime that fits where the database is.
    ///
    /// ```
    /// use soloist::{DbPlace, Sizing};
    /// assert_eq!(Sizing::ssd(4).placed(DbPlace::Cloud).lifetime.as_secs(), 180);
    /// ```
    pub fn placed(self, place: DbPlace) -> Sizing {
        let minutes = match place {
            DbPlace::Standard => 5,
            DbPlace::Cloud => 3,
            DbPlace::OnPremises => 10,
            DbPlace::BehindBalancer => 4,
        };
        Sizing { lifetime: Duration::from_secs(60 * minutes), ..self }
    }

    fn of(open_max: usize) -> Sizing {
        Sizing::table(open_max.max(1), 0, 5).shaped(LoadShape::Steady)
    }

    const fn table(open_max: usize, idle_max: usize, minutes: u64) -> Sizing {
        Sizing { open_max, idle_max, idle_min: 0, lifetime: Duration::from_secs(60 * minutes) }
    }
}

impl From<Workload> for Sizing {
    fn from(workload: Workload) -> Sizing {
        match workload {
            Workload::HighThroughput => Sizing::table(50, 15, 3),
            Workload::WebSockets => Sizing::table(25, 5, 5),
            Workload::DatabaseIntensive => Sizing::table(40, 10, 5),
            Workload::Mixed => Sizing::table(30, 8, 5),
            Workload::LowTraffic => Sizing::table(10, 2, 5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_s_numbers() {
        for (sizing, want) in [
            (Sizing::by_spindles(4, 1), (9, 2, 300)),
            (Sizing::by_spindles(0, 0), (1, 2, 300)),
            (Sizing::ssd(4), (16, 3, 300)),
            (Sizing::ssd(8), (32, 6, 300)),
            (Sizing::ssd(16), (64, 12, 300)),
            (Sizing::concurrency(99), (10, 2, 300)),
            (Sizing::concurrency(100), (25, 5, 300)),
            (Sizing::concurrency(1_000), (25, 5, 300)),
            (Sizing::concurrency(1_001), (50, 10, 180)),
            (Workload::HighThroughput.into(), (50, 15, 180)),
            (Workload::WebSockets.into(), (25, 5, 300)),
            (Workload::DatabaseIntensive.into(), (40, 10, 300)),
            (Workload::Mixed.into(), (30, 8, 300)),
            (Workload::LowTraffic.into(), (10, 2, 300)),
            (Sizing::ssd(8).shaped(LoadShape::Variable), (32, 16, 300)),
            (Sizing::ssd(8).shaped(LoadShape::Burst).placed(DbPlace::OnPremises), (32, 10, 600)),
        ] {
            let got = (sizing.open_max, sizing.idle_max, sizing.lifetime.as_secs());
            assert_eq!(got, want, "{sizing:?}");
        }
    }
}
