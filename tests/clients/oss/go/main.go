// Runs the official OSS SDK for Go, version 2, unmodified, against a server
// that says it is OSS. One line per operation; the exit code is 1 if one of
// them went wrong. The operations are those of ../check.py.
package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"
)

const kib = 1 << 10

// All that an encoding can get wrong: blank, plus, tilde, percent, non-ASCII, slashes.
const awkward = "dir/a+b c~é%2F报告&=?#.bin"

var (
	ctx       = context.Background()
	endpoint  = flag.String("endpoint", "", "http://127.0.0.1:9000")
	signature = flag.String("signature", "v4", "v1 or v4")
	bucket    = oss.Ptr("bkt")
)

type check struct {
	client *oss.Client
	prefix string
	key    *string
	folder string
}

func client(id, secret, token, region string) *oss.Client {
	version := oss.SignatureVersionV4
	if *signature == "v1" {
		version = oss.SignatureVersionV1
	}
	config := oss.LoadDefaultConfig().
		WithCredentialsProvider(credentials.NewStaticCredentialsProvider(id, secret, token)).
		WithRegion(region).WithEndpoint(*endpoint).WithSignatureVersion(version).
		WithUsePathStyle(true).WithRetryMaxAttempts(1)
	return oss.NewClient(config)
}

// must and that end an operation; the others run too.
func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func that(holds bool, what ...any) {
	if !holds {
		panic(fmt.Sprint(what...))
	}
}

func refused(code string, err error) {
	var service *oss.ServiceError
	that(errors.As(err, &service), "not refused with ", code, ": ", err)
	that(service.Code == code, "refused with ", service.Code, ", not ", code)
}

func random(bytes int) []byte {
	data := make([]byte, bytes)
	must(rand.Read(data))
	return data
}

func (c *check) put(key *string, data []byte) *oss.PutObjectResult {
	return must(c.client.PutObject(ctx, &oss.PutObjectRequest{Bucket: bucket, Key: key, Body: bytes.NewReader(data)}))
}

func (c *check) read(client *oss.Client, key *string, wanted *string) ([]byte, error) {
	result, err := client.GetObject(ctx, &oss.GetObjectRequest{Bucket: bucket, Key: key, Range: wanted})
	if err != nil {
		return nil, err
	}
	defer result.Body.Close()
	return io.ReadAll(result.Body)
}

func (c *check) get(key *string) []byte { return must(c.read(c.client, key, nil)) }

func (c *check) initiate(key *string) *string {
	return must(c.client.InitiateMultipartUpload(ctx, &oss.InitiateMultipartUploadRequest{Bucket: bucket, Key: key})).UploadId
}

func (c *check) part(key, id *string, number int32, data []byte) (*oss.UploadPartResult, error) {
	return c.client.UploadPart(ctx, &oss.UploadPartRequest{
		Bucket: bucket, Key: key, UploadId: id, PartNumber: number, Body: bytes.NewReader(data)})
}

func (c *check) complete(key, id *string, parts ...oss.UploadPart) (*oss.CompleteMultipartUploadResult, error) {
	return c.client.CompleteMultipartUpload(ctx, &oss.CompleteMultipartUploadRequest{
		Bucket: bucket, Key: key, UploadId: id, CompleteMultipartUpload: &oss.CompleteMultipartUpload{Parts: parts}})
}

func (c *check) uploads() []string {
	names := []string{}
	pages := c.client.NewListMultipartUploadsPaginator(&oss.ListMultipartUploadsRequest{
		Bucket: bucket, Prefix: &c.prefix, MaxUploads: 1})
	for pages.HasNext() {
		for _, upload := range must(pages.NextPage(ctx)).Uploads {
			names = append(names, *upload.Key+" "+*upload.UploadId)
		}
	}
	return names
}

// fetch is without the SDK, as a browser uses a presigned URL.
func fetch(method, target string, data []byte) (int, []byte, http.Header) {
	request := must(http.NewRequest(method, target, bytes.NewReader(data)))
	answer := must(http.DefaultClient.Do(request))
	defer answer.Body.Close()
	return answer.StatusCode, must(io.ReadAll(answer.Body)), answer.Header
}

func (c *check) putGetHeadDelete() {
	data := random(300 * kib)
	result := must(c.client.PutObject(ctx, &oss.PutObjectRequest{Bucket: bucket, Key: c.key, Body: bytes.NewReader(data),
		ContentType: oss.Ptr("image/png"), Metadata: map[string]string{"who": "alice"}}))
	digest := md5.Sum(data)
	that(strings.Trim(*result.ETag, `"`) == strings.ToUpper(hex.EncodeToString(digest[:])), *result.ETag)
	that(bytes.Equal(c.get(c.key), data), "other bytes")
	head := must(c.client.HeadObject(ctx, &oss.HeadObjectRequest{Bucket: bucket, Key: c.key}))
	that(head.ContentLength == int64(len(data)) && *head.ContentType == "image/png" && head.Metadata["who"] == "alice", head)
	that(*head.HashCRC64 == *result.HashCRC64, "another CRC")
	_, err := c.client.PutObject(ctx, &oss.PutObjectRequest{Bucket: bucket, Key: c.key, ForbidOverwrite: oss.Ptr("true"),
		Body: strings.NewReader("other")})
	refused("FileAlreadyExists", err)
	for range [2]int{} {
		must(c.client.DeleteObject(ctx, &oss.DeleteObjectRequest{Bucket: bucket, Key: c.key}))
	}
	that(!must(c.client.IsObjectExist(ctx, *bucket, *c.key)), "is still there")
	_, err = c.read(c.client, c.key, nil)
	refused("NoSuchKey", err)
}

func (c *check) emptyObject() {
	c.put(c.key, nil)
	that(len(c.get(c.key)) == 0, "is not empty")
}

func (c *check) rangeRead() {
	data := random(1024)
	c.put(c.key, data)
	for wanted, expected := range map[string][]byte{
		"bytes=10-20": data[10:21], "bytes=1000-": data[1000:], "bytes=-24": data[1000:], "bytes=10-5000": data} {
		that(bytes.Equal(must(c.read(c.client, c.key, &wanted)), expected), wanted)
	}
}

func (c *check) listObjects() {
	names := []string{"list/a/1", "list/a/2 +", "list/b", "list/c"}
	for _, name := range names {
		c.put(oss.Ptr(c.prefix+name), []byte("x"))
	}
	found := []string{}
	pages := c.client.NewListObjectsV2Paginator(&oss.ListObjectsV2Request{
		Bucket: bucket, Prefix: oss.Ptr(c.prefix + "list/"), MaxKeys: 2})
	for pages.HasNext() {
		for _, object := range must(pages.NextPage(ctx)).Contents {
			found = append(found, strings.TrimPrefix(*object.Key, c.prefix))
		}
	}
	that(strings.Join(found, "|") == strings.Join(names, "|"), found)
	found = found[:0]
	older := c.client.NewListObjectsPaginator(&oss.ListObjectsRequest{
		Bucket: bucket, Prefix: oss.Ptr(c.prefix + "list/"), Delimiter: oss.Ptr("/"), MaxKeys: 1})
	for older.HasNext() {
		page := must(older.NextPage(ctx))
		for _, object := range page.Contents {
			found = append(found, strings.TrimPrefix(*object.Key, c.prefix))
		}
		for _, folder := range page.CommonPrefixes {
			found = append(found, strings.TrimPrefix(*folder.Prefix, c.prefix))
		}
	}
	that(strings.Join(found, "|") == "list/a/|list/b|list/c", found)
}

func (c *check) multipartUpload() {
	pieces := [][]byte{random(300 * kib), random(100 * kib), random(7)}
	id, parts := c.initiate(c.key), []oss.UploadPart{}
	for _, number := range []int32{3, 1, 2} {
		part := must(c.part(c.key, id, number, pieces[number-1]))
		parts = append(parts, oss.UploadPart{PartNumber: number, ETag: part.ETag})
	}
	sort.Slice(parts, func(a, b int) bool { return parts[a].PartNumber < parts[b].PartNumber })
	listed, pages := int32(0), c.client.NewListPartsPaginator(&oss.ListPartsRequest{
		Bucket: bucket, Key: c.key, UploadId: id, MaxParts: 2})
	for pages.HasNext() {
		for _, part := range must(pages.NextPage(ctx)).Parts {
			that(part.PartNumber == listed+1 && part.Size == int64(len(pieces[listed])), part)
			listed++
		}
	}
	that(listed == 3, "not all are listed")
	that(strings.Join(c.uploads(), "|") == *c.key+" "+*id, c.uploads())
	result := must(c.complete(c.key, id, parts...))
	that(strings.HasSuffix(strings.Trim(*result.ETag, `"`), "-3"), *result.ETag)
	that(bytes.Equal(c.get(c.key), bytes.Join(pieces, nil)), "other bytes")
	_, err := c.complete(c.key, id, parts...)
	refused("NoSuchUpload", err)
}

func (c *check) completeRefused() {
	id := c.initiate(c.key)
	first, last := must(c.part(c.key, id, 1, []byte("small"))), must(c.part(c.key, id, 2, []byte("last")))
	_, err := c.complete(c.key, id, oss.UploadPart{PartNumber: 1, ETag: first.ETag}, oss.UploadPart{PartNumber: 2, ETag: last.ETag})
	refused("EntityTooSmall", err)
	_, err = c.complete(c.key, id, oss.UploadPart{PartNumber: 1, ETag: last.ETag})
	refused("InvalidPart", err)
	wrong := md5.Sum([]byte("other"))
	_, err = c.client.UploadPart(ctx, &oss.UploadPartRequest{Bucket: bucket, Key: c.key, UploadId: id, PartNumber: 1,
		ContentMD5: oss.Ptr(base64.StdEncoding.EncodeToString(wrong[:])), Body: strings.NewReader("small")})
	refused("InvalidDigest", err)
	must(c.part(c.key, id, 1, bytes.Repeat([]byte("x"), 100*kib)))
	must(c.client.CompleteMultipartUpload(ctx, &oss.CompleteMultipartUploadRequest{
		Bucket: bucket, Key: c.key, UploadId: id, CompleteAll: oss.Ptr("yes")}))
	that(len(c.get(c.key)) == 100*kib+4, "another length")
}

func (c *check) abort() {
	id := c.initiate(c.key)
	must(c.part(c.key, id, 1, []byte("x")))
	request := &oss.AbortMultipartUploadRequest{Bucket: bucket, Key: c.key, UploadId: id}
	must(c.client.AbortMultipartUpload(ctx, request))
	_, err := c.part(c.key, id, 2, []byte("x"))
	refused("NoSuchUpload", err)
	_, err = c.client.AbortMultipartUpload(ctx, request)
	refused("NoSuchUpload", err)
	that(len(c.uploads()) == 0, c.uploads())
}

func (c *check) listUploads() {
	begun := []string{}
	for _, name := range "bbac" {
		key := c.prefix + string(name)
		begun = append(begun, key+" "+*c.initiate(&key))
	}
	sort.Strings(begun)
	that(strings.Join(c.uploads(), "|") == strings.Join(begun, "|"), c.uploads())
	for _, upload := range begun {
		key, id, _ := strings.Cut(upload, " ")
		must(c.client.AbortMultipartUpload(ctx, &oss.AbortMultipartUploadRequest{Bucket: bucket, Key: &key, UploadId: &id}))
	}
}

func (c *check) stats() map[string]int {
	_, body, _ := fetch("GET", *endpoint+"/-/stats", nil)
	stats := map[string]int{}
	that(json.Unmarshal(body, &stats) == nil, string(body))
	return stats
}

func (c *check) resumableUpload() {
	part, data, path := 256*kib, random(8*256*kib-5), filepath.Join(c.folder, "file.bin")
	that(os.WriteFile(path, data, 0o600) == nil, path)
	uploader := c.client.NewUploader(func(o *oss.UploaderOptions) {
		o.PartSize, o.ParallelNum, o.EnableCheckpoint, o.CheckpointDir = int64(part), 1, true, c.folder
	})
	before := c.stats()
	broken, cancel := context.WithCancel(ctx)
	_, err := uploader.UploadFile(broken, &oss.PutObjectRequest{Bucket: bucket, Key: c.key,
		ProgressFn: func(_, sent, _ int64) {
			if sent > int64(3*part) {
				cancel()
			}
		}}, path)
	that(err != nil, "was not interrupted")
	middle := c.stats()
	that(middle["openUploads"] == before["openUploads"]+1, "the first attempt left no upload")
	must(uploader.UploadFile(ctx, &oss.PutObjectRequest{Bucket: bucket, Key: c.key}, path))
	after := c.stats()
	that(after["initiate"] == before["initiate"]+1, "began anew instead of resuming")
	that(after["uploadPart"]-middle["uploadPart"] < 8, "all parts were sent again")
	back := filepath.Join(c.folder, "back.bin")
	must(c.client.NewDownloader(func(o *oss.DownloaderOptions) { o.PartSize = 1 << 20 }).DownloadFile(
		ctx, &oss.GetObjectRequest{Bucket: bucket, Key: c.key}, back))
	that(bytes.Equal(must(os.ReadFile(back)), data), "other bytes")
}

func (c *check) presigned() {
	data := random(1000)
	c.put(c.key, data)
	sign := func(request any) string {
		return must(c.client.Presign(ctx, request, oss.PresignExpires(10*time.Minute))).URL
	}
	status, body, _ := fetch("GET", sign(&oss.GetObjectRequest{Bucket: bucket, Key: c.key}), nil)
	that(status == 200 && bytes.Equal(body, data), status, string(body))
	id := c.initiate(c.key)
	target := sign(&oss.UploadPartRequest{Bucket: bucket, Key: c.key, UploadId: id, PartNumber: 1})
	status, body, headers := fetch("PUT", target, data)
	that(status == 200, string(body))
	must(c.complete(c.key, id, oss.UploadPart{PartNumber: 1, ETag: oss.Ptr(headers.Get("ETag"))}))
	target = strings.Replace(sign(&oss.GetObjectRequest{Bucket: bucket, Key: c.key}), "dir", "rid", 1)
	status, body, _ = fetch("GET", target, nil)
	that(status == 403 && strings.Contains(string(body), "SignatureDoesNotMatch"), string(body))
}

func (c *check) wrongCredentials() {
	read := func(client *oss.Client) error { _, err := c.read(client, c.key, nil); return err }
	refused("SignatureDoesNotMatch", read(client("ak", "wrong", "", "cn-hangzhou")))
	refused("InvalidAccessKeyId", read(client("nobody", "sk", "", "cn-hangzhou")))
	_, err := c.client.GetObject(ctx, &oss.GetObjectRequest{Bucket: oss.Ptr("another-bucket"), Key: c.key})
	refused("NoSuchBucket", err)
	if *signature == "v4" {
		refused("InvalidArgument", read(client("ak", "sk", "", "cn-beijing")))
	}
}

func (c *check) properties() {
	must(c.client.PutObject(ctx, &oss.PutObjectRequest{Bucket: bucket, Key: c.key, StorageClass: oss.StorageClassIA,
		Tagging: oss.Ptr("a=1"), Body: strings.NewReader("x")}))
	head := must(c.client.HeadObject(ctx, &oss.HeadObjectRequest{Bucket: bucket, Key: c.key}))
	that(*head.StorageClass == "IA", *head.StorageClass)
	that(c.tags()["a"] == "1", c.tags())
}

func (c *check) deleteMany() {
	objects := []oss.DeleteObject{}
	for _, name := range []string{"a", "b +&<>", "c"} {
		key := c.prefix + "many/" + name
		c.put(&key, []byte("x"))
		objects = append(objects, oss.DeleteObject{Key: &key})
	}
	result := must(c.client.DeleteMultipleObjects(ctx, &oss.DeleteMultipleObjectsRequest{Bucket: bucket, Objects: objects}))
	that(len(result.DeletedObjects) == 3 && *result.DeletedObjects[1].Key == *objects[1].Key, result)
	that(!must(c.client.IsObjectExist(ctx, *bucket, *objects[1].Key)), "is still there")
}

func (c *check) copy() {
	data, target := random(1000), oss.Ptr(c.prefix+"copied é+")
	c.put(c.key, data)
	request := &oss.CopyObjectRequest{Bucket: bucket, Key: target, SourceKey: c.key}
	must(c.client.CopyObject(ctx, request))
	must(c.client.DeleteObject(ctx, &oss.DeleteObjectRequest{Bucket: bucket, Key: c.key}))
	that(bytes.Equal(c.get(target), data), "other bytes")
	_, err := c.client.CopyObject(ctx, request)
	refused("NoSuchKey", err)
}

func (c *check) partCopy() {
	data, target := random(300*kib), oss.Ptr(c.prefix+"assembled")
	c.put(c.key, data)
	id, parts := c.initiate(target), []oss.UploadPart{}
	for i, wanted := range []string{"bytes=0-102399", "bytes=204800-307199"} {
		part := must(c.client.UploadPartCopy(ctx, &oss.UploadPartCopyRequest{Bucket: bucket, Key: target, UploadId: id,
			PartNumber: int32(i + 1), SourceKey: c.key, Range: &wanted}))
		parts = append(parts, oss.UploadPart{PartNumber: int32(i + 1), ETag: part.ETag})
	}
	must(c.complete(target, id, parts...))
	that(bytes.Equal(c.get(target), append(append([]byte{}, data[:102400]...), data[204800:]...)), "other bytes")
}

func (c *check) append() {
	key := oss.Ptr(c.prefix + "grows")
	add := func(position int64, text string) (*oss.AppendObjectResult, error) {
		return c.client.AppendObject(ctx, &oss.AppendObjectRequest{
			Bucket: bucket, Key: key, Position: &position, Body: strings.NewReader(text)})
	}
	that(must(add(0, "12345")).NextPosition == 5, "another position")
	result := must(add(5, "6789"))
	that(result.NextPosition == 9 && *result.HashCRC64 == "11051210869376104954", *result.HashCRC64)
	that(string(c.get(key)) == "123456789", "other bytes")
	_, err := add(5, "x")
	refused("PositionNotEqualToLength", err)
}

func (c *check) tags() map[string]string {
	result := must(c.client.GetObjectTagging(ctx, &oss.GetObjectTaggingRequest{Bucket: bucket, Key: c.key}))
	tags := map[string]string{}
	for _, tag := range result.Tags {
		tags[*tag.Key] = *tag.Value
	}
	return tags
}

func (c *check) tagging() {
	c.put(c.key, []byte("x"))
	must(c.client.PutObjectTagging(ctx, &oss.PutObjectTaggingRequest{Bucket: bucket, Key: c.key, Tagging: &oss.Tagging{
		TagSet: &oss.TagSet{Tags: []oss.Tag{{Key: oss.Ptr("a"), Value: oss.Ptr("1")}, {Key: oss.Ptr("b"), Value: oss.Ptr("x y")}}}}}))
	that(c.tags()["a"] == "1" && c.tags()["b"] == "x y", c.tags())
	must(c.client.DeleteObjectTagging(ctx, &oss.DeleteObjectTaggingRequest{Bucket: bucket, Key: c.key}))
	that(len(c.tags()) == 0, c.tags())
}

func (c *check) acl() {
	c.put(c.key, []byte("for all"))
	target := *endpoint + "/bkt/" + strings.ReplaceAll(url.QueryEscape(*c.key), "+", "%20")
	status, _, _ := fetch("GET", target, nil)
	that(status == 403, status)
	must(c.client.PutObjectAcl(ctx, &oss.PutObjectAclRequest{Bucket: bucket, Key: c.key, Acl: oss.ObjectACLPublicRead}))
	acl := must(c.client.GetObjectAcl(ctx, &oss.GetObjectAclRequest{Bucket: bucket, Key: c.key}))
	that(*acl.ACL == "public-read", *acl.ACL)
	status, body, _ := fetch("GET", target, nil)
	that(status == 200 && string(body) == "for all", status)
}

func encoded(parameter map[string]string) *string {
	return oss.Ptr(base64.StdEncoding.EncodeToString(must(json.Marshal(parameter))))
}

func (c *check) callback() {
	told := ""
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told = string(body)
		_, _ = w.Write([]byte(`{"told": 1}`))
	}))
	defer receiver.Close()
	result := must(c.client.PutObject(ctx, &oss.PutObjectRequest{Bucket: bucket, Key: c.key, Body: strings.NewReader("12345"),
		Callback:    encoded(map[string]string{"callbackUrl": receiver.URL, "callbackBody": "size=${size}&who=${x:who}"}),
		CallbackVar: encoded(map[string]string{"x:who": "alice"})}))
	that(told == "size=5&who=alice", told)
	that(fmt.Sprint(result.CallbackResult["told"]) == "1", result.CallbackResult)
}

func (c *check) sts() {
	read := func(id, secret, token string) error {
		_, err := c.read(client(id, secret, token, "cn-hangzhou"), c.key, nil)
		return err
	}
	c.put(c.key, []byte("by sts"))
	that(read("STS.valid", "sk2", "token+/2==") == nil, "is not accepted")
	signed := must(client("STS.valid", "sk2", "token+/2==", "cn-hangzhou").Presign(ctx, &oss.GetObjectRequest{Bucket: bucket, Key: c.key}))
	status, body, _ := fetch("GET", signed.URL, nil)
	that(status == 200, string(body))
	refused("SecurityTokenExpired", read("STS.expired", "sk3", "token3"))
	refused("InvalidSecurityToken", read("STS.valid", "sk2", "token3"))
	refused("InvalidAccessKeyId", read("STS.valid", "sk2", ""))
}

func (c *check) bucketCors() {
	must(c.client.PutBucketCors(ctx, &oss.PutBucketCorsRequest{Bucket: bucket, CORSConfiguration: &oss.CORSConfiguration{
		CORSRules: []oss.CORSRule{{AllowedOrigins: []string{"*"}, AllowedMethods: []string{"PUT", "GET"}, ExposeHeaders: []string{"ETag"}}}}}))
	result := must(c.client.GetBucketCors(ctx, &oss.GetBucketCorsRequest{Bucket: bucket}))
	that(result.CORSConfiguration.CORSRules[0].ExposeHeaders[0] == "ETag", result)
}

func (c *check) bucketInfo() {
	info := must(c.client.GetBucketInfo(ctx, &oss.GetBucketInfoRequest{Bucket: bucket}))
	that(*info.BucketInfo.Location == "oss-cn-hangzhou", *info.BucketInfo.Location)
}

func main() {
	flag.Parse()
	c := &check{client: client("ak", "sk", "", "cn-hangzhou"), prefix: "go-" + hex.EncodeToString(random(4)) + "/"}
	c.key = oss.Ptr(c.prefix + awkward)
	c.folder = must(os.MkdirTemp("", "oss-check-"))
	failed := 0
	for _, operation := range []struct {
		name string
		run  func()
	}{
		{"put_get_head_delete", c.putGetHeadDelete}, {"empty_object", c.emptyObject}, {"range_read", c.rangeRead},
		{"list_objects", c.listObjects}, {"multipart_upload", c.multipartUpload}, {"complete_refused", c.completeRefused},
		{"abort", c.abort}, {"list_uploads", c.listUploads}, {"resumable_upload", c.resumableUpload},
		{"presigned", c.presigned}, {"wrong_credentials", c.wrongCredentials}, {"properties", c.properties},
		{"delete_many", c.deleteMany}, {"copy", c.copy}, {"part_copy", c.partCopy}, {"append", c.append},
		{"tagging", c.tagging}, {"acl", c.acl}, {"callback", c.callback}, {"sts", c.sts},
		{"bucket_cors", c.bucketCors}, {"bucket_info", c.bucketInfo},
	} {
		func() {
			defer func() {
				if why := recover(); why != nil {
					failed++
					fmt.Printf("FAIL  %s\n%v\n", operation.name, why)
				}
			}()
			operation.run()
			fmt.Printf("ok    %s\n", operation.name)
		}()
	}
	_ = os.RemoveAll(c.folder)
	if failed > 0 {
		os.Exit(1)
	}
}
