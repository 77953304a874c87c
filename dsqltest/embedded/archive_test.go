package embedded

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// archiveOf returns a jar as the repository has it: a tar.xz file in a zip file.
func archiveOf(t *testing.T, files map[string][]byte) []byte {
	t.Helper()
	var tarred, jar bytes.Buffer
	w := tar.NewWriter(&tarred)
	require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "bin", Mode: 0o755}))
	for name, content := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content))}))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "lib/link", Linkname: "../bin/postgres"}))
	require.NoError(t, w.Close())

	z := zip.NewWriter(&jar)
	file, err := z.Create("postgres-linux-x86_64.txz")
	require.NoError(t, err)
	_, err = file.Write(xzOf(tarred.Bytes()))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return jar.Bytes()
}

// xzOf returns data as an .xz file that is not compressed,
// https://tukaani.org/xz/xz-file-format.txt.
func xzOf(data []byte) []byte {
	le := binary.LittleEndian
	sum := func(b []byte) []byte { return le.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

	flags := []byte{0, 1} // the check is CRC32
	header := append([]byte{2, 0, 0x21, 1, 0x16}, 0, 0, 0)
	block := append(header, sum(header)...)
	control := byte(1) // of a chunk that is not compressed and resets the dictionary
	for rest := bytes.NewReader(data); rest.Len() > 0; control = 2 {
		chunk, _ := io.ReadAll(io.LimitReader(rest, 1<<16))
		block = append(binary.BigEndian.AppendUint16(append(block, control), uint16(len(chunk)-1)), chunk...)
	}
	block = append(block, 0)
	index := binary.AppendUvarint([]byte{0, 1}, uint64(len(block)+4))
	index = pad(binary.AppendUvarint(index, uint64(len(data))))
	index = append(index, sum(index)...)
	footer := append(le.AppendUint32(nil, uint32(len(index)/4-1)), flags...)

	file := append([]byte("\xfd7zXZ\x00"), flags...)
	file = append(file, sum(flags)...)
	file = append(pad(append(file, block...)), sum(data)...)
	file = append(append(file, index...), sum(footer)...)
	return append(append(file, footer...), 'Y', 'Z')
}
