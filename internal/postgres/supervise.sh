# Runs PostgreSQL while the process that started this script holds the other end of standard input,
# which closes however that process ends: on a copy of the template, which is then removed, or on the
# data directory that is to be kept, in which everything is then written. Descriptor 3 is the lock of
# a kept directory, which PostgreSQL holds too. Prints the directory of the socket, and the end of the
# log if the server stops.
umask 077
trap : HUP INT TERM PIPE # clean up before exiting
template=$1 postgres=$2 kept=$3
shift 3

problems=
for parent; do
	dir=$(mktemp -d "$parent/dsqltest-XXXXXX" 2>&1) || {
		problems="$problems
$dir"
		dir=
		continue
	}
	[ -z "$kept" ] || break
	copied=$(cp -R "$template/." "$dir" 2>&1) && break
	rm -rf "$dir" # such as a full file system
	problems="$problems
$(echo "$copied" | head -n 1)"
	dir=
done
if [ -z "$dir" ]; then
	echo "user $(id -un 2>/dev/null || id -u) cannot create PostgreSQL's files in any of $*:$problems"
	exit 1
fi
data=$dir stop=QUIT durable=
if [ -n "$kept" ]; then
	data=$kept stop=INT durable='-c fsync=on -c full_page_writes=on -c synchronous_commit=on -c autovacuum=on'
	rm -f "$kept/postmaster.pid" # of a server that was killed: the lock shows that none runs
fi

echo "$dir"

# macOS limits a program to 256 files; PostgreSQL there needs one for each connection.
ulimit -S -n 8192 2>/dev/null || ulimit -S -n 4096 2>/dev/null
exec 4<&0 # in the background, 0 is /dev/null
"$postgres" -D "$data" -k "$dir" $durable >"$data/log" 2>&1 </dev/null 4<&- &
server=$!
(
	read -r _
	# At first the server ignores QUIT and INT, but not TERM.
	kill -TERM $server
	kill -$stop $server
	# This is for a supervisor that has been killed.
	while kill -0 $server; do sleep 0.1; done
	rm -rf "$dir"
) <&4 >/dev/null 2>&1 &
watcher=$!
while kill -0 $server 2>/dev/null; do
	wait $server # returns early on a signal
done
kill $watcher 2>/dev/null
tail -n 20 "$data/log"
rm -rf "$dir"
