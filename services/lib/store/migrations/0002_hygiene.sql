-- Valid on SQLite and on PostgreSQL. Times are milliseconds since the epoch.

-- What providers said of addresses, per minute: the memory of the guard against mass retirement. An
-- address without an app has the empty text.
CREATE TABLE hygiene_windows (
    channel TEXT   NOT NULL,
    account TEXT   NOT NULL,
    app     TEXT   NOT NULL,
    minute  BIGINT NOT NULL,
    told    BIGINT NOT NULL,
    dead    BIGINT NOT NULL,
    PRIMARY KEY (channel, account, app, minute)
);

-- The `suppressions` topic, to be looked at.
CREATE TABLE suppressions (
    address_key   TEXT   NOT NULL PRIMARY KEY,
    channel       TEXT   NOT NULL,
    account       TEXT   NOT NULL,
    address_id    TEXT   NOT NULL,
    app           TEXT,
    hold          TEXT   NOT NULL,
    reason        TEXT   NOT NULL,
    since         BIGINT NOT NULL,
    registered_at BIGINT,
    verdicts      BIGINT NOT NULL,
    first_at      BIGINT NOT NULL,
    who           TEXT   NOT NULL,
    why           TEXT
);

CREATE INDEX suppressions_by_account ON suppressions (channel, account, address_key);
