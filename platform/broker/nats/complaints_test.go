package nats

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestComplaints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.InfoLevel)
		c := complaints{log: zap.New(core)}
		absent, refused := errors.New("stream not found"), errors.New("refused")
		logged := func(err error, want bool, why string) {
			t.Helper()
			logs.TakeAll()
			c.warn("interrupted", err)
			require.Equal(t, want, logs.Len() == 1, why)
		}
		logged(absent, true, "the first time")
		time.Sleep(2 * time.Second)
		logged(absent, false, "nothing has changed")
		logged(refused, true, "another error")
		logged(absent, true, "and back")
		time.Sleep(silence)
		logged(absent, true, "a reminder")
		logs.TakeAll()
		c.over()
		c.over()
		require.Equal(t, 1, logs.Len(), "the end of it, once")
		logged(absent, true, "it begins anew")
	})
}
