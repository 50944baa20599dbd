package postgres

import (
	"context"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

// suspectTracer marks connections whose server is no longer the one to talk to:
// read-only since it was demoted, or shutting down. admit keeps them from being
// handed out again.
type suspectTracer struct {
	logger  *zap.Logger
	dropped atomic.Int64
}

const suspectKey = "slipway.suspect"

func (t *suspectTracer) mark(conn *pgx.Conn, err error) {
	if err == nil || conn == nil {
		return
	}
	switch code := SQLState(err); code {
	case codeReadOnly, codeAdminShutdown, codeCrashShutdown, codeCannotConnectNow:
		conn.PgConn().CustomData()[suspectKey] = code
	}
}

// admit refuses a marked connection; the pool then replaces it.
func (t *suspectTracer) admit(_ context.Context, conn *pgx.Conn) (bool, error) {
	code, ok := conn.PgConn().CustomData()[suspectKey]
	if !ok {
		return true, nil
	}
	t.dropped.Add(1)
	t.logger.Warn("dropping database connection", zap.Any("sqlstate", code),
		zap.String("server", conn.PgConn().Conn().RemoteAddr().String()))
	return false, nil
}

// TraceQueryStart implements pgx.QueryTracer.
func (t *suspectTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (t *suspectTracer) TraceQueryEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	t.mark(conn, data.Err)
}

// TraceBatchStart implements pgx.BatchTracer.
func (t *suspectTracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

// TraceBatchQuery implements pgx.BatchTracer.
func (t *suspectTracer) TraceBatchQuery(_ context.Context, conn *pgx.Conn, data pgx.TraceBatchQueryData) {
	t.mark(conn, data.Err)
}

// TraceBatchEnd implements pgx.BatchTracer.
func (t *suspectTracer) TraceBatchEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	t.mark(conn, data.Err)
}

// TraceCopyFromStart implements pgx.CopyFromTracer.
func (t *suspectTracer) TraceCopyFromStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceCopyFromStartData) context.Context {
	return ctx
}

// TraceCopyFromEnd implements pgx.CopyFromTracer.
func (t *suspectTracer) TraceCopyFromEnd(_ context.Context, conn *pgx.Conn, data pgx.TraceCopyFromEndData) {
	t.mark(conn, data.Err)
}
