-- Valid on SQLite and on PostgreSQL. Times are milliseconds since the epoch.

-- The way from a provider's own id to its delivery.
CREATE INDEX deliveries_by_provider_reference ON deliveries (provider_reference)
    WHERE provider_reference IS NOT NULL;

-- Reports that carry a provider's id only, until their delivery is known or their time is over.
-- `look_at` is when they are looked at next.
CREATE TABLE waiting_reports (
    report_id          TEXT   NOT NULL PRIMARY KEY,
    channel            TEXT   NOT NULL,
    account            TEXT   NOT NULL,
    provider_reference TEXT   NOT NULL,
    said               TEXT   NOT NULL,
    outcome            TEXT   NOT NULL,
    reason             TEXT   NOT NULL,
    at                 BIGINT NOT NULL,
    received_at        BIGINT NOT NULL,
    look_at            BIGINT NOT NULL
);

CREATE INDEX waiting_reports_by_time ON waiting_reports (look_at);
