//! What the process itself holds, looked at whenever its metrics are read.

use opentelemetry::metrics::Gauge;
use tokio::runtime::Handle;

use crate::instruments;

instruments! {
    /// The instruments of the process.
    pub struct Instruments in "bongsu_process" {
        /// Tasks that were started and have not ended.
        tasks: Gauge<u64> = "bongsu_process_tasks" of "tasks" by [], alert "when it only rises";
        /// Files and sockets that are open; where the system tells it.
        open_files: Gauge<u64> = "bongsu_process_open_files" of "files" by [], alert "near the limit of open files";
    }
}

impl Instruments {
    /// Looks.
    pub(super) fn observe(&self) {
        if let Ok(handle) = Handle::try_current() {
            self.tasks
                .record(handle.metrics().num_alive_tasks() as u64, &[]);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            // Less the one that is read here.
            self.open_files
                .record((files.count() as u64).saturating_sub(1), &[]);
        }
    }
}
