package postgres

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// nssWrappers is where packages install nss_wrapper, https://cwrap.org/nss_wrapper.html.
var nssWrappers = []string{"/usr/lib/*/libnss_wrapper.so", "/usr/lib64/libnss_wrapper.so", "/usr/lib/libnss_wrapper.so"}

// nameUser makes initdb find a name for its user, which it insists on. A user without one is usual
// in containers: docker run --user 12345, OpenShift. It returns what to do if the command fails
// nevertheless.
func nameUser(cmd *exec.Cmd, acc account, dir string) (advice error, err error) {
	if acc.credential != nil {
		return nil, nil // has been looked up
	}
	uid, gid := strconv.Itoa(int(acc.uid)), strconv.Itoa(os.Getegid())
	if _, err := user.LookupId(uid); err == nil {
		return nil, nil
	}
	advice = fmt.Errorf("user %s has no entry in /etc/passwd, which initdb needs: install nss_wrapper (Debian: libnss-wrapper, Fedora and Alpine: nss_wrapper), or add an entry", uid)
	for _, pattern := range nssWrappers {
		libraries, _ := filepath.Glob(pattern)
		if len(libraries) == 0 {
			continue
		}
		passwd, group := filepath.Join(dir, "passwd-"+uid), filepath.Join(dir, "group-"+uid)
		if err := os.WriteFile(passwd, []byte("dsqltest:x:"+uid+":"+gid+"::/:/bin/sh\n"), 0o600); err != nil {
			return nil, err
		}
		if err := os.WriteFile(group, []byte("dsqltest:x:"+gid+":\n"), 0o600); err != nil {
			return nil, err
		}
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+libraries[0], "NSS_WRAPPER_PASSWD="+passwd, "NSS_WRAPPER_GROUP="+group)
		return advice, nil
	}
	// Otherwise in a user namespace, where the system allows it, as the user nobody.
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return advice, nil
	}
	inside, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		return advice, nil
	}
	cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: inside, HostID: int(acc.uid), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
	return advice, nil
}
