package devenv

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/slipwayhq/slipway/platform/postgres/pgserver"
)

func TestChoosePostgres(t *testing.T) {
	t.Parallel()
	at := setup(t).at

	t.Run("takes the server of DATABASE_URL first", func(t *testing.T) {
		t.Parallel()
		w, err := choosePostgres(t.Context(), at, []string{"DATABASE_URL=postgres://admin@db:1/postgres"})
		require.NoError(t, err)
		require.Equal(t, "postgres://admin@db:1/postgres", w.url)
	})

	t.Run("refuses a DATABASE_URL in another form", func(t *testing.T) {
		t.Parallel()
		for _, given := range []string{"host=db user=admin", "mysql://db/x", "postgres:///x", "://"} {
			_, err := choosePostgres(t.Context(), at, []string{"DATABASE_URL=" + given})
			require.ErrorContains(t, err, "want postgres://user:password@host:port/database", given)
		}
	})

	t.Run("takes installed programs next", func(t *testing.T) {
		t.Parallel()
		found, err := pgserver.FindBinaries(t.Context(), "", 0)
		if err != nil {
			t.Skip("PostgreSQL is not installed")
		}
		w, err := choosePostgres(t.Context(), at, nil)
		require.NoError(t, err)
		require.Equal(t, found, *w.programs)
	})
}

func TestWay_noneOpen(t *testing.T) {
	t.Parallel()
	w := way{errPrograms: pgserver.ErrNoBinaries, errDocker: errors.New("there is no docker command")}
	err := w.noneOpen(errors.New("no network"))
	require.ErrorIs(t, err, ErrNoPostgres)
	require.EqualError(t, err, `no PostgreSQL: do one of these, then start again
  1. set DATABASE_URL to a server whose account may create databases and roles
  2. install PostgreSQL (no PostgreSQL found)
  3. start Docker (there is no docker command)
  4. let it be downloaded (no network)`)
}
