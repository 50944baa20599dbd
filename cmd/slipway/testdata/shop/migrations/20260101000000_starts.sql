CREATE TABLE starts (at timestamptz NOT NULL DEFAULT clock_timestamp());
