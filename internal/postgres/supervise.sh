# Runs PostgreSQL on a copy of the template for as long as the process that
# started this script holds the other end of standard input, which ends with that
# process however it ends. Prints the data directory, and the end of the log
# should the server stop.
umask 077
trap : HUP INT TERM PIPE # clean up before ending
template=$1 postgres=$2
shift 2

for parent; do
	dir=$(mktemp -d "$parent/dsqltest-XXXXXX" 2>/dev/null) && break
done
if [ -z "$dir" ]; then
	echo "user $(id -un) can make a directory in none of $*"
	exit 1
fi
echo "$dir"

if cp -R "$template/." "$dir"; then
	# macOS gives a program 256 files, and there PostgreSQL needs one for each connection.
	ulimit -S -n 4096 2>/dev/null
	exec 3<&0 # in the background, 0 is /dev/null
	"$postgres" -D "$dir" -k "$dir" >"$dir/log" 2>&1 </dev/null 3<&- &
	server=$!
	# QUIT is ignored until the server is old enough to handle it; TERM is not.
	(read -r _; kill -TERM $server; kill -QUIT $server) <&3 >/dev/null 2>&1 &
	watcher=$!
	while kill -0 $server 2>/dev/null; do
		wait $server # ends early when a signal comes
	done
	kill $watcher 2>/dev/null
	tail -n 20 "$dir/log"
fi
rm -rf "$dir"
