-- The outbox: your transaction writes the notification beside the change that causes it.
-- The row's number becomes part of the event id, so never reset it.
CREATE TABLE IF NOT EXISTS notification_outbox (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sender     TEXT        NOT NULL,
    event      JSONB       NOT NULL, -- the event without its id and sender
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
