-- After how long without a sign of life the holder is taken for dead, as it says
-- itself: who wants to know whether it lives waits for as long.
ALTER TABLE slipway.outbox_sink ADD COLUMN lease interval;
