package pgserver

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is whom the server runs as.
type account struct {
	uid, gid uint32
	name     string
	drop     bool // the caller is root and must hand over to it
}

// accountFor returns the caller's account or, for root, whom PostgreSQL does not
// serve, the owner of the data, else postgres, else nobody.
func accountFor(data string) (account, error) {
	if os.Geteuid() != 0 {
		return account{uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), name: strconv.Itoa(os.Geteuid())}, nil
	}
	if info, err := os.Stat(data); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			return account{uid: st.Uid, gid: st.Gid, name: strconv.FormatUint(uint64(st.Uid), 10), drop: true}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return account{}, fmt.Errorf("read the ids of account %s: %w", name, err)
		}
		return account{uid: uint32(uid), gid: uint32(gid), name: name, drop: true}, nil
	}
	return account{}, errors.New("PostgreSQL does not run as root, and there is no account postgres or nobody to hand over to")
}

func (a account) credential() *syscall.Credential {
	if !a.drop {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// own hands the file or folder over to the account.
func (a account) own(path string) error {
	if !a.drop {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// mkdir makes a private folder of the account. An existing one is taken over.
func (a account) mkdir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return a.own(path)
}

// reach reports the folder that keeps the account from entering path.
func (a account) reach(path string) error {
	if !a.drop {
		return nil
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	for dir := path; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && !a.searchable(info) {
			return fmt.Errorf("%w: root hands PostgreSQL over to account %s, which may not enter %s on the way to %s: open it (chmod o+x %s) or choose a folder elsewhere",
				ErrUnreachable, a.name, dir, path, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (a account) searchable(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	switch mode := info.Mode().Perm(); {
	case st.Uid == a.uid:
		return mode&0o100 != 0
	case st.Gid == a.gid:
		return mode&0o010 != 0
	default:
		return mode&0o001 != 0
	}
}

// Place returns a folder for the server's data that its account can reach: dir
// itself, except when root asks for a folder below one that is closed to others,
// such as a checkout under /root. Then it is a folder of /var/lib/slipway that is
// always the same for the same dir.
func Place(dir string) (string, error) {
	l, err := newLayout(dir)
	if err != nil {
		return "", err
	}
	a, err := accountFor(l.data())
	if err != nil {
		return "", err
	}
	if a.reach(l.dir) == nil {
		return l.dir, nil
	}
	sum := sha256.Sum256([]byte(l.dir))
	return fmt.Sprintf("/var/lib/slipway/%x", sum[:6]), nil
}
